{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}manager{{- end -}}

{{- define "operator.probePort" -}}8081{{- end -}}

{{- define "operator.args" -}}
- --allowed-endpoints={{ join "," .Values.allowedEndpoints }}
- --aws-identity-namespaces={{ join "," .Values.awsIdentityNamespaces }}
- --allowed-tables={{ join "," .Values.allowedTables }}
- --ddbctldpjob-concurrency={{ .Values.concurrency }}
{{- end -}}

{{- define "operator.env" -}}{{- end -}}

{{- define "operator.volumeMounts" -}}[]{{- end -}}

{{- define "operator.volumes" -}}[]{{- end -}}

{{- define "operator.podSecurityContext" -}}
{{- toYaml .Values.podSecurityContext -}}
{{- end -}}

{{- define "operator.egress" -}}{{- end -}}
