{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}manager{{- end -}}

{{- define "operator.provider" -}}{{- end -}}

{{- define "operator.rival" -}}{{- end -}}

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
{{- $ports := list -}}
{{- range without .Values.allowedEndpoints "aws" -}}
{{- $given := regexFind ":[0-9]+$" . | trimPrefix ":" -}}
{{- $ports = append $ports (default (ternary 80 443 (hasPrefix "http://" .)) $given | int) -}}
{{- end }}
{{- with $ports | uniq }}
# The endpoints that jobs may name.
- ports:
    {{- range . }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
{{- end }}
{{- end -}}
