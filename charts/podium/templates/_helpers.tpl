{{- define "podium.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* The name of everything in a namespace. */ -}}
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

{{- /* The name of what is in no namespace. Releases that serve some namespaces only may have the same name, in namespaces of their own. */ -}}
{{- define "podium.clusterName" -}}
{{- include "podium.fullname" . -}}
{{- if .Values.namespaces -}}-{{ .Release.Namespace }}{{- end -}}
{{- end -}}

{{- define "podium.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "podium.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name the account that the controllers are to have, or let serviceAccount.create be true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* The Lease by which the controllers elect the active one. */ -}}
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

{{- /* What a controller needs wherever it serves. */ -}}
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
  # Deletes none. Where OwnerReferencesPermissionEnforcement is on, as in OpenShift, it takes this verb to change a Lease's owner.
  verbs: [get, list, watch, create, update, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end -}}

{{- /* Subject of a binding: the controllers' account. */ -}}
{{- define "podium.subject" -}}
- kind: ServiceAccount
  name: {{ include "podium.serviceAccountName" . }}
  namespace: {{ .Release.Namespace }}
{{- end -}}

{{- /* The user that the API server takes the controllers' account for, in CEL. */ -}}
{{- define "podium.user" -}}
'system:serviceaccount:{{ .Release.Namespace }}:{{ include "podium.serviceAccountName" . }}'
{{- end -}}

{{- /* Whether the label key of this CEL name may be written, in CEL: what --label-keys means. */ -}}
{{- define "podium.allowedKey" -}}
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

{{- /* Whether the labels of this CEL name match the Election's selector, in CEL. */ -}}
{{- define "podium.matches" -}}
params.spec.selector.?matchLabels.orValue({}).all(key, key in {{ . }} && {{ . }}[key] == params.spec.selector.matchLabels[key]) &&
params.spec.selector.?matchExpressions.orValue([]).all(it,
  it.operator == 'In' ? it.key in {{ . }} && {{ . }}[it.key] in it.?values.orValue([]) :
  it.operator == 'NotIn' ? !(it.key in {{ . }} && {{ . }}[it.key] in it.?values.orValue([])) :
  it.operator == 'Exists' ? it.key in {{ . }} :
  !(it.key in {{ . }}))
{{- end -}}

{{- /* What a policy does, from this list of the values. */ -}}
{{- define "podium.actions" -}}
{{- if and (has "Deny" .) (has "Warn" .) -}}
{{- fail "admission: what Deny refuses is not warned of besides: write [Deny], [Deny, Audit], or any of Warn and Audit" -}}
{{- end -}}
{{- toJson . -}}
{{- end -}}

{{- /* From how many labels and annotations on, before and after a change taken together, the API server is not asked to look at each: the time
that a loop takes in CEL grows with the square of its length (measured: 4,000 in 0.1 s, 40,000 in 10 s). */ -}}
{{- define "podium.tooMany" -}}10000{{- end -}}
