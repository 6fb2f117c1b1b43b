//! What has to stand in step-ca's ca.json for a node: the provisioner with its template, and the revocation list.

use serde_json::{Value, json};

use super::provisioner_key::{KeyError, NewProvisionerKey, new_provisioner_key};
use crate::pki::extension_arc::{DEFAULT_ARC, ExtensionArc};

/// The provisioner's template, under the default arc.
const TEMPLATE: &str = include_str!("../../../compose/step-ca/mosaic.tpl");

/// The provisioner's template, under the given arc.
#[must_use]
pub fn template(arc: &ExtensionArc) -> String {
    let quoted = |oid: &str| format!("\"{oid}\"");
    TEMPLATE
        .replace(&quoted(&format!("{DEFAULT_ARC}.1")), &quoted(&arc.grant().oid.to_id_string()))
        .replace(&quoted(&format!("{DEFAULT_ARC}.2")), &quoted(&arc.subject().oid.to_id_string()))
}

/// An entry of `authority.provisioners`, with a new key that `password` opens.
///
/// Renewal at step-ca is off: it would copy the extensions without asking the node, which has the grant. The smallstep
/// extension stays on, because without it step-ca does not know the provisioner of a certificate and lets it renew.
pub fn provisioner(name: &str, password: &[u8], arc: &ExtensionArc) -> Result<Value, KeyError> {
    let NewProvisionerKey { public, encrypted } = new_provisioner_key(password)?;
    Ok(json!({
        "type": "JWK",
        "name": name,
        "key": public,
        "encryptedKey": encrypted,
        "claims": {
            "minTLSCertDuration": "1m",
            "defaultTLSCertDuration": "24h",
            "maxTLSCertDuration": "2160h",
            "disableRenewal": true,
            "enableSSHCA": false,
        },
        "options": { "x509": { "template": template(arc) } },
    }))
}

/// Section `crl`: a new list with every revocation, and every twenty minutes.
#[must_use]
pub fn crl_settings() -> Value {
    json!({ "enabled": true, "generateOnRevoke": true, "cacheDuration": "1h", "renewPeriod": "20m" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_names_the_extensions_by_the_arc() {
        assert_eq!(template(&ExtensionArc::default()), TEMPLATE);
        let other = template(&ExtensionArc::parse("1.3.6.1.4.1.4711").unwrap());
        assert!(other.contains(r#""id": "1.3.6.1.4.1.4711.1", "critical": false"#));
        assert!(other.contains(r#""id": "1.3.6.1.4.1.4711.2", "critical": false"#));
        assert!(!other.contains(r#""1.3.6.1.4.1.99999."#));
    }
}
