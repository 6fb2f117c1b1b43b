use mosaic::pki::pem::to_hex;
use mosaic::pki::step_ca::testing::TestStepCa;

/// Section `[ca]` for a node whose authority this is; the root is in a file, as for a node that starts without it.
pub(crate) fn section(ca: &TestStepCa) -> String {
    let config = ca.config();
    format!(
        "[ca]\nkind = \"step-ca\"\nurl = \"{}\"\nroot_sha256 = \"{}\"\nroot_file = \"{}\"\nprovisioner = \"{}\"\npassword_file = \"{}\"\n",
        config.url,
        to_hex(&config.root_sha256),
        ca.directory().join("root_ca.crt").display(),
        config.provisioner,
        config.password_file.display(),
    )
}
