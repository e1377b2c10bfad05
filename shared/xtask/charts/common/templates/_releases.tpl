{{/*
Beside other releases of the same chart in one cluster.
*/}}

{{/*
The namespaces that this release serves, by commas; `*` for all.
*/}}
{{- define "operator.watched" -}}
{{- join "," .Values.watchNamespaces | default "*" -}}
{{- end -}}

{{/*
Two that serve one namespace would act on the same objects, each with a lease of its own.
*/}}
{{- define "operator.refuseOverlap" -}}
{{- if .Values.refuseOverlap -}}
{{- $key := printf "%s/watch-namespaces" .Chart.Name -}}
{{- $ours := include "operator.watched" . | splitList "," -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $namespace := .metadata.namespace -}}
{{- $theirs := get (.metadata.annotations | default dict) $key | default "*" | splitList "," -}}
{{- $same := and (eq .metadata.namespace $.Release.Namespace) (eq (get $labels "app.kubernetes.io/instance") $.Release.Name) -}}
{{- if and (eq (get $labels "app.kubernetes.io/name") $.Chart.Name) (eq (get $labels "app.kubernetes.io/component") "controller-manager") (not $same) -}}
{{- range $ours -}}
{{- if or (eq . "*") (has "*" $theirs) (has . $theirs) -}}
{{- fail (printf "release %s in namespace %s serves %s already: give both releases watchNamespaces that have none in common, or set refuseOverlap=false" (get $labels "app.kubernetes.io/instance") $namespace (join "," $theirs)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether this release may write a definition: one that something else has installed is left alone. Takes `root` and
`name`; not empty for yes.
*/}}
{{- define "operator.ownsDefinition" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- if $found -}}
{{- $owner := $found.metadata.annotations | default dict -}}
{{- if and (eq (get $owner "meta.helm.sh/release-name") .root.Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
yes
{{- end -}}
{{- else -}}
yes
{{- end -}}
{{- end -}}

{{/*
What a person should know after an installation, of any operator.
*/}}
{{- define "operator.notes" -}}
{{- range $group, $resources := include "operator.kinds" . | fromJson }}
{{- range $resources }}
{{- $name := printf "%s.%s" . $group }}
{{- if and $.Values.crds.enabled (not (include "operator.ownsDefinition" (dict "root" $ "name" $name))) }}

The definition {{ $name }} was installed by something else and is left alone: keep it at this version or newer.
{{- end }}
{{- end }}
{{- end }}
{{- if not .Values.leaderElect }}

There is one replica and no standby: during an update nothing is reconciled. Set leaderElect=true to change that.
{{- end }}
{{- end -}}
