//! Whether a rotation of the master secret was left half done, or its old secret was not removed everywhere (ADR 18).

use secrecy::ExposeSecret;
use tokio_postgres::Client;

use super::Probe;
use crate::config::{Config, MasterSecretSource};
use crate::postgres::master_secrets::OnRecord;
use crate::secrets::{KeyId, MasterSecret};

const NAME: &str = "master secret rotation";

const FINISH: &str = "run 'mosaic gateway rotate-secret' again: it finishes what was begun, and begins nothing anew";

/// The command refuses it so too.
const LIST_AGAIN: &str = "put its line back behind the others where the master secret is kept, or copy master_secret_file from a \
                          machine that has it; then run 'mosaic gateway rotate-secret', which retires it";

/// Nothing when there is nothing to tell, or the secret cannot be read: that has a probe of its own.
pub(super) async fn probe(config: &Config, client: &Client) -> Result<Option<Probe>, tokio_postgres::Error> {
    let (secret, in_file) = match &config.master_secret {
        MasterSecretSource::Given(text) => (MasterSecret::parse(text.expose_secret()), false),
        MasterSecretSource::File(file) => (MasterSecret::load(file), true),
    };
    let Ok(secret) = secret else { return Ok(None) };
    let record = OnRecord::read(client).await?;
    Ok(judge(&secret.ids(), in_file, &record))
}

/// `listed`: what is configured here, the newest first.
fn judge(listed: &[KeyId], in_file: bool, record: &OnRecord) -> Option<Probe> {
    let sealing = record.sealing?;
    let Some(place) = listed.iter().position(|id| *id == sealing) else {
        let detail =
            format!("this site seals with master secret {sealing}, which is not in the one that is configured here");
        return Some(Probe::red(
            NAME,
            detail,
            "copy master_secret_file from a machine where a replica of this site runs",
        ));
    };
    if let Some(missing) = record.opening.iter().find(|id| !listed.contains(id)) {
        let detail = format!("{sealing} seals, and {missing} is not retired yet and not in what is configured here");
        return Some(Probe::yellow(NAME, detail, LIST_AGAIN));
    }
    let old: Vec<String> = listed.iter().filter(|id| record.retired.contains(id)).map(ToString::to_string).collect();
    let newest = listed[0];
    if place > 0 && !record.retired.contains(&newest) {
        let detail = format!("unfinished: {newest} is listed, and {sealing} still seals");
        return Some(Probe::yellow(NAME, detail, FINISH));
    }
    if let Some(opening) = record.opening.first() {
        let detail = format!("unfinished: {sealing} seals, and {opening} is not retired yet");
        return Some(Probe::yellow(NAME, detail, FINISH));
    }
    if old.is_empty() {
        return None;
    }
    let detail = format!(
        "{sealing} seals, and what is configured here still lists secrets that are retired: {}",
        old.join(", ")
    );
    let remedy = if in_file && place == 0 {
        "run 'mosaic gateway rotate-secret' again: it removes them from the file; where it cannot, remove every line but the first".to_owned()
    } else {
        format!("remove every secret but number {} where the master secret is kept", place + 1)
    };
    Some(Probe::yellow(NAME, detail, remedy))
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn id(byte: u8) -> KeyId {
        KeyId::from_bytes(&[byte; KeyId::BYTES]).unwrap()
    }

    fn told(listed: &[u8], in_file: bool, [sealing, opening, retired]: [&[u8]; 3]) -> Option<(Status, String, String)> {
        let ids = |bytes: &[u8]| bytes.iter().map(|byte| id(*byte)).collect::<Vec<_>>();
        let record = OnRecord { sealing: ids(sealing).first().copied(), opening: ids(opening), retired: ids(retired) };
        judge(&ids(listed), in_file, &record)
            .map(|probe| (probe.status, probe.detail, probe.remedy.unwrap_or_default()))
    }

    #[test]
    fn nothing_is_told_of_a_site_without_a_rotation_and_of_one_that_is_done() {
        assert_eq!(told(&[1], true, [&[], &[], &[]]), None);
        assert_eq!(told(&[1], true, [&[1], &[], &[]]), None);
        assert_eq!(told(&[2], true, [&[2], &[], &[1]]), None);
    }

    #[test]
    fn every_step_at_which_a_rotation_can_stop_is_told_with_its_remedy() {
        let unfinished = |what: &str| Some((Status::Yellow, format!("unfinished: {what}"), FINISH.to_owned()));
        let (one, two) = (id(1), id(2));
        let listed = unfinished(&format!("{two} is listed, and {one} still seals"));
        assert_eq!(told(&[2, 1], true, [&[1], &[], &[]]), listed);
        assert_eq!(told(&[2, 1], true, [&[1], &[2], &[]]), listed);
        let switched = unfinished(&format!("{two} seals, and {one} is not retired yet"));
        assert_eq!(told(&[2, 1], true, [&[2], &[1], &[]]), switched);
    }

    #[test]
    fn a_secret_that_is_in_use_and_not_listed_is_to_be_listed_again() {
        let (two, three) = (id(2), id(3));
        let lost = |seals, lost| {
            let detail = format!("{seals} seals, and {lost} is not retired yet and not in what is configured here");
            Some((Status::Yellow, detail, LIST_AGAIN.to_owned()))
        };
        assert_eq!(told(&[2], true, [&[2], &[1], &[]]), lost(two, id(1)));
        assert_eq!(told(&[2], true, [&[2], &[3], &[1]]), lost(two, three), "the new one of a rotation that was begun");
        assert_eq!(told(&[3, 2], true, [&[2], &[3, 1], &[]]), lost(two, id(1)), "the command would refuse it");
        assert_eq!(told(&[2, 1], true, [&[2], &[1, 3], &[]]), lost(two, three));
    }

    #[test]
    fn a_retired_secret_that_is_still_listed_is_told_with_what_removes_it() {
        let remedy = |listed: &[u8], in_file| told(listed, in_file, [&[2], &[], &[1]]).unwrap().2;
        assert!(remedy(&[2, 1], true).contains("rotate-secret"));
        assert!(remedy(&[2, 1], false).contains("every secret but number 1"));
        assert!(
            remedy(&[1, 2], true).contains("every secret but number 2"),
            "the command would take the first for new"
        );
        let (status, detail, _) = told(&[2, 1], true, [&[2], &[], &[1]]).unwrap();
        assert!(status == Status::Yellow && detail.contains(&id(1).to_string()), "{detail}");
    }

    #[test]
    fn a_node_without_the_secret_that_seals_cannot_work() {
        let (status, _, remedy) = told(&[1], true, [&[2], &[], &[1]]).unwrap();
        assert!(status == Status::Red && remedy.contains("copy master_secret_file"), "{remedy}");
    }
}
