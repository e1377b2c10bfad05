{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}manager{{- end -}}

{{- define "operator.provider" -}}{{- end -}}

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

{{- define "operator.egress" -}}
# What gives the pod its AWS identity: the agent of Pod Identity, or the instance's metadata.
- ports:
    - port: 80
      protocol: TCP
  to:
    - ipBlock: {cidr: 169.254.170.23/32}
    - ipBlock: {cidr: 169.254.169.254/32}
    - ipBlock: {cidr: "fd00:ec2::23/128"}
    - ipBlock: {cidr: "fd00:ec2::254/128"}
{{- end -}}
