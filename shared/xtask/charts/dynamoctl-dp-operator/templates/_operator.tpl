{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}manager{{- end -}}

{{- define "operator.probePort" -}}8081{{- end -}}

{{- define "operator.apiGroups" -}}["dynamoctl.dp.operators.sanjivmadhavan.io"]{{- end -}}

{{- define "operator.resources" -}}["ddbctldpjobs"]{{- end -}}

{{- define "operator.args" -}}
- --allowed-endpoints={{ join "," .Values.allowedEndpoints }}
- --aws-identity-namespaces={{ join "," .Values.awsIdentityNamespaces }}
- --allowed-tables={{ join "," .Values.allowedTables }}
- --ddbctldpjob-concurrency={{ .Values.concurrency }}
{{- end -}}
