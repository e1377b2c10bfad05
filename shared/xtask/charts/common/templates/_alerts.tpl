{{/*
Symptoms that a person has to look at. Each has a section of its name in docs/troubleshooting.md that says what to do, and
links to it where that page is served.
*/}}
{{- define "operator.alerts" -}}
{{- $job := printf "%s-metrics-service" (include "operator.manager" .) -}}
{{- $page := .Values.metrics.prometheusRule.runbooks -}}
- alert: OperatorAbsent
  expr: absent(up{job={{ $job | quote }}} == 1)
  for: 10m
  labels:
    severity: critical
  annotations:
    summary: No replica of {{ include "operator.fullname" . }} answers
    description: No object of its kinds is reconciled. Look at the pods and their events in namespace {{ .Release.Namespace }}.
    {{- with $page }}
    runbook_url: {{ . }}#operatorabsent
    {{- end }}
- alert: OperatorWithoutLeader
  expr: sum(leader_election_master_status{job={{ $job | quote }}}) < 1
  for: 5m
  labels:
    severity: critical
  annotations:
    summary: No replica of {{ include "operator.fullname" . }} acts
    description: Replicas answer, and none acts. Look at what /readyz?verbose of each waits for, at the Lease {{ include "operator.fullname" . }} and at the log of each replica.
    {{- with $page }}
    runbook_url: {{ . }}#operatorwithoutleader
    {{- end }}
- alert: OperatorReconcileErrors
  expr: |-
    sum by (controller) (rate(controller_runtime_reconcile_errors_total{job={{ $job | quote }}}[10m]))
      / sum by (controller) (rate(controller_runtime_reconcile_total{job={{ $job | quote }}}[10m])) > 0.2
  for: 15m
  labels:
    severity: warning
  annotations:
    summary: {{ printf "More than a fifth of the passes of {{ $labels.controller }} fail" | quote }}
    description: Conditions and events of the objects say why.
    {{- with $page }}
    runbook_url: {{ . }}#operatorreconcileerrors
    {{- end }}
- alert: OperatorPanics
  expr: increase(controller_runtime_reconcile_panics_total{job={{ $job | quote }}}[1h]) > 0
  labels:
    severity: warning
  annotations:
    summary: {{ printf "A pass of {{ $labels.controller }} panicked" | quote }}
    description: That is a bug. The log has the object and the place.
    {{- with $page }}
    runbook_url: {{ . }}#operatorpanics
    {{- end }}
- alert: OperatorQueueSlow
  expr: |-
    histogram_quantile(0.99, sum by (le, name) (rate(workqueue_queue_duration_seconds_bucket{job={{ $job | quote }}}[10m]))) > 100
  for: 15m
  labels:
    severity: warning
  annotations:
    summary: {{ printf "Objects wait more than 100 seconds in the queue of {{ $labels.name }}" | quote }}
    description: Raise the concurrency of the kind, or find out what makes its passes slow.
    {{- with $page }}
    runbook_url: {{ . }}#operatorqueueslow
    {{- end }}
{{- end -}}
