{{- define "authgate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters, so that what is put behind it fits in 63. */}}
{{- define "authgate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "authgate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "authgate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "authgate.instance" -}}
app.kubernetes.io/name: {{ include "authgate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Which pods are the gateway's; what never changes in the life of a release. */}}
{{- define "authgate.selector" -}}
{{ include "authgate.instance" . }}
app.kubernetes.io/component: gateway
{{- end -}}

{{- define "authgate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "authgate.instance" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: authgate
{{- end -}}

{{- define "authgate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Whether the stores are a SQLite and a Valkey of the pod's own. */}}
{{- define "authgate.embedded" -}}
{{- if not .Values.secrets.databaseUrl.name -}}true{{- end -}}
{{- end -}}

{{/* How many pods there are at least. */}}
{{- define "authgate.replicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- .Values.autoscaling.minReplicas | int -}}
{{- else -}}
{{- .Values.replicaCount | int -}}
{{- end -}}
{{- end -}}

{{/* And how many at most. */}}
{{- define "authgate.mostReplicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- .Values.autoscaling.maxReplicas | int -}}
{{- else -}}
{{- .Values.replicaCount | int -}}
{{- end -}}
{{- end -}}

{{- define "authgate.scheme" -}}
{{- if .Values.tls.secretName -}}https{{- else -}}http{{- end -}}
{{- end -}}

{{- define "authgate.port" -}}
{{- .Values.service.port | default (ternary 443 80 (ne .Values.tls.secretName "")) | int -}}
{{- end -}}

{{/* What GATEWAY_DRAIN_S leaves to what has begun (30 s), and 10 s more. */}}
{{- define "authgate.gracePeriod" -}}
{{- add (.Values.drain.preStopSeconds | int) (ceil .Values.drain.seconds | int) 40 -}}
{{- end -}}

{{/* A value as a text: a number without an exponent, and `$(` that Kubernetes takes for nothing of
its own. */}}
{{- define "authgate.text" -}}
{{- $value := . -}}
{{- if not (kindIs "string" $value) -}}
{{- if eq (floor $value) (float64 $value) -}}{{- $value = int64 $value -}}{{- end -}}
{{- end -}}
{{- $value | toString | replace "$(" "$$(" | quote -}}
{{- end -}}

{{- define "authgate.fromSecret" -}}
- name: {{ .variable }}
  valueFrom:
    secretKeyRef:
      name: {{ .name | quote }}
      key: {{ .key | quote }}
{{- end -}}

{{/* The environment of everything that is started from the image. */}}
{{- define "authgate.env" -}}
{{- $admin := printf "%s-admin" (include "authgate.fullname" .) -}}
{{- $inNamespace := printf "%s.%s" $admin .Release.Namespace -}}
# The admin listener is asked by address by the kubelet and by Prometheus.
- name: POD_IP
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: GATEWAY_ADMIN_HOSTS
  value: {{ printf "$(POD_IP),%s,%s,%s.svc,%s.svc.%s" $admin $inNamespace $inNamespace $inNamespace .Values.clusterDomain | quote }}
- name: GATEWAY_PUBLIC_URL
  value: {{ .Values.publicUrl | quote }}
- name: GATEWAY_LISTEN
  value: {{ printf "%s:8080" .Values.listenHost | quote }}
- name: GATEWAY_ADMIN_LISTEN
  value: {{ printf "%s:9901" .Values.listenHost | quote }}
{{- if .Values.console.url }}
- name: GATEWAY_ADMIN_URL
  value: {{ .Values.console.url | quote }}
{{- end }}
{{- if and .Values.decisions.enabled .Values.decisions.grpc }}
- name: GATEWAY_EXT_AUTHZ_LISTEN
  value: {{ printf "%s:9191" .Values.listenHost | quote }}
{{- end }}
- name: GATEWAY_WORKERS
  value: {{ .Values.workers | int | quote }}
- name: GATEWAY_DRAIN_S
  value: {{ include "authgate.text" .Values.drain.seconds }}
# A folder that the gateway makes itself: that of the volume is not its own.
- name: GATEWAY_DATA_DIR
  value: /var/lib/authgate/data
{{- if .Values.tls.secretName }}
- name: GATEWAY_TLS_CERT
  value: /etc/authgate-tls/tls.crt
- name: GATEWAY_TLS_KEY
  value: /etc/authgate-tls/tls.key
{{- end }}
{{- if .Values.secrets.upstreams.name }}
- name: GATEWAY_SECRETS_DIR
  value: /etc/authgate-secrets
{{- end }}
{{- range $variable, $secret := dict "GATEWAY_KEY_SECRET" .Values.secrets.keySecret "GATEWAY_DATABASE_URL" .Values.secrets.databaseUrl "GATEWAY_REDIS_URL" .Values.secrets.redisUrl "GATEWAY_PASSWORD_PEPPER" .Values.secrets.passwordPepper "GATEWAY_SMTP_URL" .Values.secrets.smtpUrl }}
{{- if $secret.name }}
{{ include "authgate.fromSecret" (dict "variable" $variable "name" $secret.name "key" $secret.key) }}
{{- end }}
{{- end }}
{{- range .Values.secrets.env }}
{{ include "authgate.fromSecret" . }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "authgate.text" $value }}
{{- end }}
{{- range $name, $value := .Values.env }}
- name: {{ $name }}
  value: {{ include "authgate.text" $value }}
{{- end }}
{{- end -}}

{{/* The key of a ConfigMap that stands for a path: it may hold no slash. */}}
{{- define "authgate.key" -}}
{{- . | replace "/" "__" -}}
{{- end -}}

{{- define "authgate.configData" -}}
{{- range $path, $text := .Values.config.files }}
{{ include "authgate.key" $path }}: {{ $text | quote }}
{{- end }}
{{- end -}}

{{/* One volume of all files, so that an edit of several is seen as one.  `configMap` is the name of
the one that has config.files. */}}
{{- define "authgate.volumes" -}}
{{- $root := .root -}}
- name: config
  projected:
    defaultMode: 0444
    sources:
      {{- if $root.Values.config.files }}
      - configMap:
          name: {{ .configMap }}
          items:
            {{- range $path, $text := $root.Values.config.files }}
            - {key: {{ include "authgate.key" $path | quote }}, path: {{ $path | quote }}}
            {{- end }}
      {{- end }}
      {{- range $root.Values.config.configMaps }}
      - configMap:
          name: {{ .name | quote }}
          items:
            {{- range .items }}
            - {key: {{ .key | quote }}, path: {{ .path | quote }}}
            {{- end }}
      {{- end }}
{{- if $root.Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ $root.Values.tls.secretName | quote }}, defaultMode: 0440}
{{- end }}
{{- if $root.Values.secrets.upstreams.name }}
- name: upstream-secrets
  secret: {secretName: {{ $root.Values.secrets.upstreams.name | quote }}, defaultMode: 0440}
{{- end }}
{{- range $index, $mount := $root.Values.mounts }}
- name: mount-{{ $index }}
  {{- if $mount.secretName }}
  secret: {secretName: {{ $mount.secretName | quote }}, defaultMode: 0440}
  {{- else }}
  configMap: {name: {{ $mount.configMapName | quote }}, defaultMode: 0444}
  {{- end }}
{{- end }}
{{- end -}}

{{/* No subPath anywhere: what is mounted by one is never changed again. */}}
{{- define "authgate.volumeMounts" -}}
- {name: config, mountPath: /etc/authgate, readOnly: true}
- {name: data, mountPath: /var/lib/authgate}
{{- if .Values.tls.secretName }}
- {name: tls, mountPath: /etc/authgate-tls, readOnly: true}
{{- end }}
{{- if .Values.secrets.upstreams.name }}
- {name: upstream-secrets, mountPath: /etc/authgate-secrets, readOnly: true}
{{- end }}
{{- range $index, $mount := .Values.mounts }}
- {name: mount-{{ $index }}, mountPath: {{ $mount.mountPath | quote }}, readOnly: true}
{{- end }}
{{- end -}}

{{/* What every pod has in common. */}}
{{- define "authgate.pod" -}}
automountServiceAccountToken: false
# A Service named `gateway` would else give each pod variables that begin as settings do.
enableServiceLinks: false
{{- with .Values.serviceAccountName }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  {{- range $name, $id := .Values.securityContext }}
  {{- if $id }}
  {{ $name }}: {{ $id | int64 }}
  {{- end }}
  {{- end }}
  {{- if .Values.securityContext.fsGroup }}
  fsGroupChangePolicy: OnRootMismatch
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "authgate.container" -}}
image: {{ include "authgate.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
# Where routes.yaml, policies/, pages/ and mail/ are looked for.
workingDir: /etc/authgate
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* What else pods may reach, where they may not reach everything. */}}
{{- define "authgate.egress" -}}
egress:
  - ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
    to:
      - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
        podSelector: {matchLabels: {k8s-app: kube-dns}}
  {{- with .Values.networkPolicy.egress }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
