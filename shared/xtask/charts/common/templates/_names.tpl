{{/*
Names and labels. With a release that is called as its chart, objects are called after the release alone. The longest
name, that of the Service, adds 35 characters, and a label may have 63.
*/}}
{{- define "operator.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 28 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 28 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 28 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "operator.manager" -}}
{{- printf "%s-controller-manager" (include "operator.fullname" .) -}}
{{- end -}}

{{- define "operator.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller-manager
{{- end -}}

{{- define "operator.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: operators
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
Definitions are told from the rest of an installation by their component, so that the rest can be deleted alone.
*/}}
{{- define "operator.definitionLabels" -}}
{{- mergeOverwrite (include "operator.labels" . | fromYaml) (dict "app.kubernetes.io/component" "definition") | toYaml -}}
{{- end -}}

{{- define "operator.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "operator.manager" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
The image, in the registry that global.imageRegistry names: a digest beats a tag; without either, the chart's version.
*/}}
{{- define "operator.image" -}}
{{- $repository := .Values.image.repository -}}
{{- with .Values.global -}}{{- with .imageRegistry -}}{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}{{- end -}}{{- end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default (printf "v%s" .Chart.AppVersion) .Values.image.tag) -}}
{{- end -}}
{{- end -}}
