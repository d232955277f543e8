{{/* Base name of the chart's objects. */}}
{{- define "modelyard.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Full name: the release, with the chart's name unless the release has it already. */}}
{{- define "modelyard.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "modelyard.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels a Deployment selects by; they never change within a release. */}}
{{- define "modelyard.selectorLabels" -}}
app.kubernetes.io/name: {{ include "modelyard.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "modelyard.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "modelyard.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: operator
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "modelyard.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "modelyard.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name must be set when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/*
[registry/]repository[:tag][@digest] from (dict "image" … "key" … "appVersion" …). After an upgrade with --reuse-values the
values that are new in this chart are missing.
*/}}
{{- define "modelyard.imageReference" -}}
{{- $image := default dict .image -}}
{{- $missing := printf "there is no value %s.repository: upgrade with --reset-then-reuse-values in place of --reuse-values, or set it" .key -}}
{{- $name := required $missing $image.repository -}}
{{- with $image.registry }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- if and $image.digest (not $image.tag) -}}
{{- printf "%s@%s" $name $image.digest -}}
{{- else if $image.digest -}}
{{- printf "%s:%s@%s" $name $image.tag $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .appVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "modelyard.image" -}}
{{- include "modelyard.imageReference" (dict "image" .Values.image "key" "image" "appVersion" .Chart.AppVersion) -}}
{{- end -}}

{{- define "modelyard.trainerImage" -}}
{{- include "modelyard.imageReference" (dict "image" .Values.trainerImage "key" "trainerImage" "appVersion" .Chart.AppVersion) -}}
{{- end -}}

{{- define "modelyard.serverImage" -}}
{{- include "modelyard.imageReference" (dict "image" .Values.serverImage "key" "serverImage" "appVersion" .Chart.AppVersion) -}}
{{- end -}}

{{- define "modelyard.gatewayImage" -}}
{{- include "modelyard.imageReference" (dict "image" .Values.gatewayImage "key" "gatewayImage" "appVersion" .Chart.AppVersion) -}}
{{- end -}}

{{/*
Settings as the operator reads them: every profile with the images it does not name itself.
*/}}
{{- define "modelyard.settings" -}}
{{- $defaults := dict
  "trainerImage" (include "modelyard.trainerImage" .)
  "serverImage" (include "modelyard.serverImage" .)
  "gatewayImage" (include "modelyard.gatewayImage" .)
  "agentImage" (include "modelyard.image" .)
  "imagePullPolicy" .Values.trainerImage.pullPolicy -}}
{{- $profiles := dict -}}
{{- range $name, $profile := .Values.profiles -}}
{{- $all := merge (dict) (default (dict) $profile) $defaults -}}
{{- $_ := set $profiles $name $all -}}
{{- end -}}
{{- $role := dict "kind" (ternary "Role" "ClusterRole" (not (empty .Values.watchNamespaces))) "name" (include "modelyard.gatewayRole" .) -}}
{{- toYaml (dict "profiles" $profiles "gatewayRole" $role) -}}
{{- end -}}

{{- define "modelyard.gatewayRole" -}}
{{ include "modelyard.fullname" . }}-gateway
{{- end -}}

{{/* The rules on namespaced objects, the same in a ClusterRole and in the Roles of watchNamespaces. */}}
{{- define "modelyard.operatorRules" -}}
# delete: a job whose ttlSecondsAfterFinished has passed.
- apiGroups: [modelyard.dev]
  resources: [trainingjobs]
  verbs: [list, watch, delete]
- apiGroups: [modelyard.dev]
  resources: [modeldeployments]
  verbs: [list, watch]
- apiGroups: [modelyard.dev]
  resources: [trainingjobs/status, modeldeployments/status]
  verbs: [patch]
# Needed to set blockOwnerDeletion in owner references, where the cluster enforces it.
- apiGroups: [modelyard.dev]
  resources: [trainingjobs/finalizers, modeldeployments/finalizers]
  verbs: [update]
# Objects are read from watches only. Server-side apply is a PATCH; where it creates, create is asked for too.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [list, watch, create, patch, delete]
{{- if not .Values.watchNamespaces }}
# Whether KEDA is installed, its definition tells at once; an operator of some namespaces looks every few minutes.
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [watch]
{{- end }}
- apiGroups: [keda.sh]
  resources: [scaledobjects]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services, persistentvolumeclaims, serviceaccounts]
  verbs: [list, watch, create, patch, delete]
# The gateways of a ModelDeployment have an account of their own, which may be bound to this one role.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [rolebindings]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [{{ ternary "roles" "clusterroles" (not (empty .Values.watchNamespaces)) }}]
  resourceNames: [{{ include "modelyard.gatewayRole" . }}]
  verbs: [bind]
# get: a claim of the user's is in no watch; before a job succeeds it is read once, whether it stays.
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# From a Deployment to its pods.
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [list, watch]
# list: why a pod is missing or does not start is said in Events only; read while one does.
- apiGroups: [""]
  resources: [events]
  verbs: [list, create]
{{- end -}}
