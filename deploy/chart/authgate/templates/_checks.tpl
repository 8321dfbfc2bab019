{{/* What no schema can say.  Each names the values and what would be right. */}}
{{- define "authgate.checks" -}}
{{- $replicas := include "authgate.replicas" . | int -}}
{{- $paths := keys .Values.config.files -}}
{{- range .Values.config.configMaps -}}{{- range .items -}}{{- $paths = append $paths .path -}}{{- end -}}{{- end -}}
{{- if not (has "routes.yaml" $paths) -}}
{{- fail "config: no routes.yaml: give its text (--set-file 'config.files.routes\\.yaml=routes.yaml'), or a ConfigMap of yours with an item whose path is routes.yaml" -}}
{{- end -}}
{{- range $path := uniq $paths -}}
{{- $times := 0 -}}
{{- range $paths -}}{{- if eq . $path -}}{{- $times = add1 $times -}}{{- end -}}{{- end -}}
{{- if gt (int $times) 1 -}}{{- fail (printf "config: %s is given %d times: leave one" $path (int $times)) -}}{{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not (index .Values.settings "GATEWAY_TRUSTED_PROXIES")) -}}
{{- fail "ingress: settings.GATEWAY_TRUSTED_PROXIES must name the addresses of the ingress controller's pods: else every caller has its address, and shares its limits" -}}
{{- end -}}
{{- if and .Values.console.ingress.enabled (not .Values.console.url) -}}
{{- fail "console.ingress: console.url must say by which https:// origin the console is reached" -}}
{{- end -}}
{{- if and .Values.console.url (eq .Values.console.url .Values.publicUrl) -}}
{{- fail "console.url: must be another origin than publicUrl" -}}
{{- end -}}
{{- if and .Values.console.url (not (index .Values.settings "GATEWAY_TRUSTED_PROXIES")) -}}
{{- fail "console.url: settings.GATEWAY_TRUSTED_PROXIES must name the addresses of the proxy that ends TLS: the console answers over https alone" -}}
{{- end -}}
{{- if and .Values.secrets.smtpUrl.name (not (index .Values.settings "GATEWAY_MAIL_FROM")) -}}
{{- fail "secrets.smtpUrl: settings.GATEWAY_MAIL_FROM must say who sends" -}}
{{- end -}}
{{- with .Values.podDisruptionBudget -}}
{{- if and .enabled (gt (include "authgate.mostReplicas" $ | int) 1) -}}
{{- if not (or (kindIs "invalid" .minAvailable) (kindIs "invalid" .maxUnavailable)) -}}
{{- fail "podDisruptionBudget: give minAvailable or maxUnavailable, not both" -}}
{{- end -}}
{{- if not (or (kindIs "invalid" .minAvailable) (kindIs "string" .minAvailable)) -}}
{{- if ge (int .minAvailable) $replicas -}}
{{- fail (printf "podDisruptionBudget.minAvailable: %d of %d pods would never let one go, and no node could be drained: at most %d" (int .minAvailable) $replicas (sub $replicas 1)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if .enabled -}}
{{- if lt (int .maxReplicas) (int .minReplicas) -}}
{{- fail (printf "autoscaling: maxReplicas (%d) is less than minReplicas (%d)" (int .maxReplicas) (int .minReplicas)) -}}
{{- end -}}
{{- if not (or .targetCPUUtilization .targetRequestsPerSecond) -}}
{{- fail "autoscaling: give targetCPUUtilization, targetRequestsPerSecond or both" -}}
{{- end -}}
{{- if and .targetCPUUtilization (not (dig "requests" "cpu" "" $.Values.resources)) -}}
{{- fail "autoscaling.targetCPUUtilization is a part of resources.requests.cpu, which is not given" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
