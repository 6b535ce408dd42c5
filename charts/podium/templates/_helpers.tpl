{{- define "podium.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* Name of all namespaced objects. */ -}}
{{- define "podium.fullname" -}}
{{- $name := include "podium.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Name of all cluster-scoped objects. Releases in different namespaces may have the same name, if they serve some namespaces only. */ -}}
{{- define "podium.clusterName" -}}
{{- include "podium.fullname" . -}}
{{- if .Values.namespaces -}}-{{ .Release.Namespace }}{{- end -}}
{{- end -}}

{{- define "podium.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "podium.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must not be empty if serviceAccount.create is false: set the name of an existing ServiceAccount" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* Lease on which the replicas elect the active one. */ -}}
{{- define "podium.leaseName" -}}
{{- include "podium.fullname" . -}}-controller
{{- end -}}

{{- define "podium.selectorLabels" -}}
app.kubernetes.io/name: {{ include "podium.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end -}}

{{- define "podium.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "podium.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "podium.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* Permissions of the controller in each namespace that it serves. */ -}}
{{- define "podium.rules" -}}
- apiGroups: [podium.dev]
  resources: [elections]
  verbs: [get, list, watch]
- apiGroups: [podium.dev]
  resources: [elections/status]
  verbs: [patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  # The controller deletes no Leases. The admission plugin OwnerReferencesPermissionEnforcement (OpenShift) requires the verb
  # delete to change the owner of a Lease.
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* Subject of a role binding: the ServiceAccount of the controllers. */ -}}
{{- define "podium.subject" -}}
- kind: ServiceAccount
  name: {{ include "podium.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* CEL: user name of the ServiceAccount of the controllers. */ -}}
{{- define "podium.user" -}}
'system:serviceaccount:{{ .Release.Namespace }}:{{ include "podium.serviceAccountName" . }}'
{{- end -}}

{{- /* CEL: whether the label key in the variable .key is one of .keys, as --allowed-label-keys defines it. */ -}}
{{- define "podium.keyIsAllowed" -}}
{{- $key := .key -}}
{{- $tests := list -}}
{{- range .keys -}}
{{- if hasPrefix "*/" . -}}
{{- $tests = append $tests (printf "%s.endsWith('%s')" $key (trimPrefix "*" .)) -}}
{{- else -}}
{{- $tests = append $tests (printf "%s == '%s'" $key .) -}}
{{- end -}}
{{- end -}}
({{ join " || " $tests }})
{{- end -}}

{{- /* CEL: whether the labels in this variable match the selector of the Election. */ -}}
{{- define "podium.matches" -}}
params.spec.selector.?matchLabels.orValue({}).all(key, key in {{ . }} && {{ . }}[key] == params.spec.selector.matchLabels[key]) &&
params.spec.selector.?matchExpressions.orValue([]).all(it,
  it.operator == 'In' ? it.key in {{ . }} && {{ . }}[it.key] in it.?values.orValue([]) :
  it.operator == 'NotIn' ? !(it.key in {{ . }} && {{ . }}[it.key] in it.?values.orValue([])) :
  it.operator == 'Exists' ? it.key in {{ . }} :
  !(it.key in {{ . }}))
{{- end -}}

{{- /* validationActions of a policy binding, from a list in the values. */ -}}
{{- define "podium.actions" -}}
{{- if and (has "Deny" .) (has "Warn" .) -}}
{{- fail "admission: Deny and Warn must not be combined: use [Deny], [Deny, Audit], or any of Warn and Audit" -}}
{{- end -}}
{{- toJson . -}}
{{- end -}}

{{- /* Maximum number of labels and annotations, before and after a change taken together, that a policy compares one by one. The
time of a CEL loop grows with the square of its length (measured: 4,000 in 0.1 s, 40,000 in 10 s). */ -}}
{{- define "podium.maxEntries" -}}10000{{- end -}}
