{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}{{- end -}}

{{- define "operator.probePort" -}}8081{{- end -}}

{{- define "operator.args" -}}
- --aws-region={{ .Values.awsRegion }}
- --operator-id={{ .Values.operatorId | default (include "operator.fullname" .) }}
- --gc-orphans={{ .Values.gcOrphans }}
- --mysqlcluster-concurrency={{ .Values.concurrency }}
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
{{- end -}}
