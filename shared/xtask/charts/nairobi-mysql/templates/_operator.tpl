{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}{{- end -}}

{{- define "operator.provider" -}}{{- end -}}

{{- define "operator.rival" -}}{{- end -}}

{{- define "operator.probePort" -}}8081{{- end -}}

{{- define "operator.args" -}}
- --aws-region={{ .Values.awsRegion }}
{{- range $name, $region := .Values.places }}
- {{ printf "--place=%s=%s" $name $region | quote }}
{{- end }}
{{- range $name, $type := .Values.storageClasses }}
- {{ printf "--storage-class=%s=%s" $name $type | quote }}
{{- end }}
- --operator-id={{ include "operator.id" . }}
- --gc-orphans={{ .Values.gcOrphans }}
- --mysqlcluster-concurrency={{ .Values.concurrency }}
- --mysql-concurrency={{ .Values.mysqlConcurrency }}
{{- end -}}

{{- define "operator.id" -}}
{{- .Values.operatorId | default (include "operator.fullname" .) -}}
{{- end -}}

{{- define "operator.env" -}}{{- end -}}

{{- define "operator.volumeMounts" -}}[]{{- end -}}

{{- define "operator.volumes" -}}[]{{- end -}}

{{- define "operator.podSecurityContext" -}}
{{- toYaml .Values.podSecurityContext -}}
{{- end -}}

{{- define "operator.egress" -}}
# The members, to which replication is set up.
- ports:
    - port: 3306
      protocol: TCP
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
