{{- define "sluice.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end -}}

{{- define "sluice.labels" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Under which coordinators reach edges: each has its name there, ready or not. */}}
{{- define "sluice.edges" -}}{{ include "sluice.name" . }}-edge.{{ .Release.Namespace }}.svc{{- end -}}

{{- define "sluice.tag" -}}{{ .Values.image.tag | default .Chart.AppVersion }}{{- end -}}

{{/* Who a pod is, and the secrets that it may have. Kubernetes makes no file that only its reader can read: they come as variables. */}}
{{- define "sluice.environment" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: HOST_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
- name: SLUICE_ID
  value: $(POD_NAME)
- name: SLUICE_ETCD__CLUSTER_KEY
  valueFrom: {secretKeyRef: {name: {{ .Values.secrets.cluster }}, key: cluster.key}}
{{- with .Values.etcd.userSecret }}
- name: SLUICE_ETCD__USER
  valueFrom: {secretKeyRef: {name: {{ . }}, key: user}}
- name: ETCD_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- /* In quotes: one of digits alone would be read as a number. */}}
- name: SLUICE_ETCD__PASSWORD
  value: '"$(ETCD_PASSWORD)"'
{{- end }}
{{- end -}}

{{- define "sluice.etcd" -}}
[etcd]
endpoints = {{ .Values.etcd.endpoints | toJson }}
{{- if .Values.etcd.caSecret }}
ca_file = "/etc/sluice/etcd/ca.pem"
{{- end }}
{{- end -}}

{{- define "sluice.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
