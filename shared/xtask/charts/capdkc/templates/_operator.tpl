{{/*
What this operator has of its own; the other templates are the same in every chart.
*/}}
{{- define "operator.subcommand" -}}{{- end -}}

{{/*
The label of what clusterctl installs of this operator.
*/}}
{{- define "operator.provider" -}}infrastructure-capdkc{{- end -}}

{{/*
The label of what clusterctl installs of another provider for the same kinds: upstream's.
*/}}
{{- define "operator.rival" -}}infrastructure-docker{{- end -}}

{{- define "operator.probePort" -}}9440{{- end -}}

{{- define "operator.args" -}}
{{- include "capdkc.checkDocker" . -}}
- --docker-host={{ .Values.docker.host | default (printf "unix://%s" .Values.docker.socket.path) }}
- --network={{ .Values.docker.network }}
- --load-balancer-image={{ .Values.docker.loadBalancerImage }}
- --watch-filter={{ .Values.watchFilter }}
- --dockercluster-concurrency={{ .Values.concurrency.clusters }}
- --dockermachine-concurrency={{ .Values.concurrency.machines }}
{{- end -}}

{{/*
One way to one daemon. Without TLS a daemon would obey everybody who reaches its port.
*/}}
{{- define "capdkc.checkDocker" -}}
{{- if and .Values.docker.host .Values.docker.socket.enabled -}}
{{- fail "docker.host and docker.socket.enabled exclude each other: choose one" -}}
{{- else if and .Values.docker.host (not .Values.docker.tls.secretName) -}}
{{- fail "docker.host needs docker.tls.secretName: a Secret with ca.pem, cert.pem and key.pem" -}}
{{- else if not (or .Values.docker.host .Values.docker.socket.enabled) -}}
{{- fail "say where Docker is: docker.host=tcp://host:2376 with docker.tls.secretName, or docker.socket.enabled=true in a namespace labelled pod-security.kubernetes.io/enforce=privileged" -}}
{{- end -}}
{{- end -}}

{{- define "operator.env" -}}
{{- if .Values.docker.host -}}
- name: DOCKER_TLS_VERIFY
  value: "1"
- name: DOCKER_CERT_PATH
  value: /etc/docker/tls
{{- end -}}
{{- end -}}

{{- define "operator.volumeMounts" -}}
{{- if .Values.docker.host -}}
- name: docker
  mountPath: /etc/docker/tls
  readOnly: true
{{- else -}}
- name: docker
  mountPath: {{ .Values.docker.socket.path }}
{{- end -}}
{{- end -}}

{{- define "operator.volumes" -}}
- name: docker
{{- if .Values.docker.host }}
  secret:
    secretName: {{ .Values.docker.tls.secretName }}
    defaultMode: 0440
{{- else }}
  hostPath:
    path: {{ .Values.docker.socket.path }}
    type: Socket
{{- end }}
{{- end -}}

{{/*
Over TLS as the values say, with a group that may read the mounted key. With the socket either a member of the
socket's group, or root where that is root's.
*/}}
{{- define "operator.podSecurityContext" -}}
{{- $context := deepCopy .Values.podSecurityContext -}}
{{- if .Values.docker.host -}}
{{- $context = merge $context (dict "fsGroup" 65532) -}}
{{- else if .Values.docker.socket.group -}}
{{- $groups := append (get $context "supplementalGroups" | default list) (int .Values.docker.socket.group) | uniq -}}
{{- $context = set $context "supplementalGroups" $groups -}}
{{- else -}}
{{- $context = mergeOverwrite $context (dict "runAsNonRoot" false "runAsUser" 0 "runAsGroup" 0) -}}
{{- end -}}
{{- toYaml $context -}}
{{- end -}}

{{- define "operator.egress" -}}
{{- with .Values.docker.host -}}
# The Docker daemon.
- ports:
    - port: {{ splitList ":" . | last | int }}
      protocol: TCP
{{- end -}}
{{- end -}}

{{/*
Of a policy's binding: where the release serves some namespaces only, it judges those only.
*/}}
{{- define "capdkc.policyScope" -}}
{{- with .Values.watchNamespaces }}
  matchResources:
    namespaceSelector:
      matchExpressions:
        - key: kubernetes.io/metadata.name
          operator: In
          values: {{ toJson . }}
{{- end }}
{{- end -}}
