{{- /*
  What the provisioner "mosaic" signs. The node says in the token, under "mosaic", for which use it wants a certificate and,
  for a client, whom it names. Nothing is taken from the certificate request but its key, and nothing has a default: a token
  without a needed claim fails here, with a message that the node understands.

  The two extensions are non-critical and hold the DER of a UTF8String of 36 bytes: a canonical lower-case UUID.
  1.3.6.1.4.1.99999 is a placeholder arc. Whoever registers one puts it here and into `ca.extension_arc` of the node.
*/ -}}
{{- $mosaic := dict -}}
{{- if hasKey .Token "mosaic" -}}{{- $mosaic = .Token.mosaic -}}{{- else -}}{{ fail "mosaic-template: the token has no claim mosaic" }}{{- end -}}
{{- $use := get $mosaic "use" -}}
{{- $uuid := "^\\x0c\\x24[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$" -}}
{{- if eq $use "client" -}}
{{- range $name := list "grant" "subject" -}}
{{- if not (hasKey $mosaic $name) -}}{{ fail (printf "mosaic-template: the token has no claim mosaic.%s" $name) }}{{- end -}}
{{- if not (regexMatch $uuid (b64dec (get $mosaic $name))) -}}{{ fail (printf "mosaic-template: the claim mosaic.%s is not the DER of a UUID" $name) }}{{- end -}}
{{- end -}}
{
  "subject": {"commonName": {{ toJson .Subject.CommonName }}},
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["clientAuth"],
  "basicConstraints": {"isCA": false},
  "extensions": [
    {"id": "1.3.6.1.4.1.99999.1", "critical": false, "value": {{ toJson (get $mosaic "grant") }}},
    {"id": "1.3.6.1.4.1.99999.2", "critical": false, "value": {{ toJson (get $mosaic "subject") }}}
  ]
}
{{- else if eq $use "server" -}}
{
  "subject": {"commonName": {{ toJson .Subject.CommonName }}},
  "sans": {{ toJson .SANs }},
  "keyUsage": ["digitalSignature"],
  "extKeyUsage": ["serverAuth"],
  "basicConstraints": {"isCA": false}
}
{{- else -}}
{{ fail "mosaic-template: the claim mosaic.use is neither client nor server" }}
{{- end -}}
