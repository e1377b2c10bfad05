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
Two that serve one namespace would act on the same objects, each with a lease of its own. That includes a provider that
clusterctl installed, and this very release under the name that it had before. Two watch filters have no object in common.
Another provider of the same kinds knows nothing of what ours serves, and must not be there at all.
*/}}
{{- define "operator.refuseOverlap" -}}
{{- if .Values.refuseOverlap -}}
{{- $key := printf "%s/watch-namespaces" .Chart.Name -}}
{{- $filterKey := printf "%s/watch-filter" .Chart.Name -}}
{{- $ours := include "operator.watched" . | splitList "," -}}
{{- range (lookup "apps/v1" "Deployment" "" "").items -}}
{{- $labels := .metadata.labels | default dict -}}
{{- $namespace := .metadata.namespace -}}
{{- $theirs := get (.metadata.annotations | default dict) $key | default "*" | splitList "," -}}
{{- $charts := and (eq (get $labels "app.kubernetes.io/name") $.Chart.Name) (eq (get $labels "app.kubernetes.io/component") "controller-manager") -}}
{{- $provider := include "operator.provider" $ -}}
{{- $rival := include "operator.rival" $ -}}
{{- if and $rival (eq (get $labels "cluster.x-k8s.io/provider") $rival) -}}
{{- fail (printf "Deployment %s in namespace %s serves the same kinds: finish the clusters that it runs, then remove it (clusterctl delete --infrastructure %s, without --include-crd), or set refuseOverlap=false" .metadata.name $namespace (trimPrefix "infrastructure-" $rival)) -}}
{{- end -}}
{{- $clusterctls := and $provider (eq (get $labels "cluster.x-k8s.io/provider") $provider) -}}
{{- $release := ternary "of clusterctl" (get $labels "app.kubernetes.io/instance") (not $charts) -}}
{{- $here := and $charts (eq $namespace $.Release.Namespace) (eq $release $.Release.Name) -}}
{{- $same := and $here (eq .metadata.name (include "operator.manager" $)) -}}
{{- $filter := get (.metadata.annotations | default dict) $filterKey -}}
{{- $apart := and $filter $.Values.watchFilter (ne $filter $.Values.watchFilter) (not $here) -}}
{{- if and (or $charts $clusterctls) (not $same) (not $apart) -}}
{{- $name := .metadata.name -}}
{{- range $ours -}}
{{- if or (eq . "*") (has "*" $theirs) (has . $theirs) -}}
{{- if $here -}}
{{- fail (printf "this release runs as %s: an upgrade with another nameOverride or fullnameOverride would have two act at once; keep the name, uninstall the release first, or set refuseOverlap=false" $name) -}}
{{- end -}}
{{- fail (printf "release %s in namespace %s serves %s already: give both releases watchNamespaces that have none in common%s, or set refuseOverlap=false" $release $namespace (join "," $theirs) (ternary " or a watchFilter each" "" (hasKey $.Values "watchFilter"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Whether this release may write a definition: one that something else has installed is left alone, unless crds.takeOver
says otherwise. Takes `root` and `name`; not empty for yes.
*/}}
{{- define "operator.ownsDefinition" -}}
{{- $found := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" .name -}}
{{- if $found -}}
{{- $owner := $found.metadata.annotations | default dict -}}
{{- $ours := and (eq (get $owner "meta.helm.sh/release-name") .root.Release.Name) (eq (get $owner "meta.helm.sh/release-namespace") .root.Release.Namespace) -}}
{{- if or $ours .root.Values.crds.takeOver -}}
yes
{{- end -}}
{{- else -}}
yes
{{- end -}}
{{- end -}}

{{/*
A duration of the schema, in milliseconds.
*/}}
{{- define "operator.milliseconds" -}}
{{- if hasSuffix "ms" . -}}{{ trimSuffix "ms" . }}{{- else -}}{{ mulf 1000.0 (trimSuffix "s" . | float64) }}{{- end -}}
{{- end -}}

{{/*
What the schema cannot see: values that contradict each other, or that nothing would come of.
*/}}
{{- define "operator.checkValues" -}}
{{- with .Values.leaderElection -}}
{{- $preset := get (dict "default" (list "15s" "10s" "2s") "fast" (list "3s" "2s" "500ms") "tolerant" (list "60s" "40s" "5s")) .preset -}}
{{- $lease := .leaseDuration | default (index $preset 0) -}}
{{- $renew := .renewDeadline | default (index $preset 1) -}}
{{- $retry := .retryPeriod | default (index $preset 2) -}}
{{- $advice := printf "give leaderElection.leaseDuration, renewDeadline and retryPeriod together, or none of them (the preset %s has %s)" .preset (join ", " $preset) -}}
{{- if le (include "operator.milliseconds" $lease | float64) (include "operator.milliseconds" $renew | float64) -}}
{{- fail (printf "leaderElection.leaseDuration=%s is not above leaderElection.renewDeadline=%s: %s" $lease $renew $advice) -}}
{{- end -}}
{{- if le (include "operator.milliseconds" $renew | float64) (mulf 1.2 (include "operator.milliseconds" $retry | float64)) -}}
{{- fail (printf "leaderElection.renewDeadline=%s is not more than 1.2 times leaderElection.retryPeriod=%s: %s" $renew $retry $advice) -}}
{{- end -}}
{{- end -}}
{{- with .Values.metrics -}}
{{- if and .service.nodePort (eq .service.type "ClusterIP") -}}
{{- fail "metrics.service.nodePort needs metrics.service.type NodePort or LoadBalancer" -}}
{{- end -}}
{{- if and (not .enabled) (or .serviceMonitor.enabled .prometheusRule.enabled) -}}
{{- fail "metrics.serviceMonitor and metrics.prometheusRule need metrics.enabled=true" -}}
{{- end -}}
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

The definition {{ $name }} was installed by something else and is left alone, now and in every upgrade: keep it at this
version or newer, or hand it to this release with --set crds.takeOver=true --take-ownership.
{{- end }}
{{- end }}
{{- end }}
{{- if not .Values.leaderElect }}

There is one replica and no standby: during an update nothing is reconciled. Set leaderElect=true to change that.
{{- end }}
{{- end -}}
