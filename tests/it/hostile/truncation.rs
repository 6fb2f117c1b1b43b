//! TLS cut off after every so many bytes.

use super::*;

/// So many bytes lie between two cuts. Prime, and smaller than any record: no boundary is always met or always missed.
const STRIDE: usize = 7;
/// By so much two handshakes of the same two sides differ in length: signatures in DER are not all equally long.
const HANDSHAKES_DIFFER: usize = 24;

/// Whatever part of handshake and answer arrives, the answer is used whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_anywhere_in_tls_leaves_the_whole_answer_or_nothing() {
    let more = "[limits]\nbreaker_failures = 100\nbreaker_calls = 1000\n";
    let home = Node::start_with("home", more).await;
    home.user("ada").await;
    let ada = home.session("ada").await;
    let hostile = Hostile::start("cut").await;
    link(&home, &hostile).await;
    let expected = rows("cut", 3);
    let query = || ada.query(list("federated:cut"));
    let honest = Play::honest(expected.clone());
    until("the peer answers", || async { (query().await.status == 200).then_some(()) }).await;

    // Over a fresh connection, so that its handshake is counted too.
    hostile.play(honest.clone());
    let before = hostile.said();
    assert_eq!(by_source(&query().await.expect(200))["cut"], titles("cut", 3));
    let whole = usize::try_from(hostile.said() - before).expect("a few KiB");
    assert!(whole > 1_000, "handshake and answer are {whole} bytes");

    for (round, cut) in (0..whole + 2 * HANDSHAKES_DIFFER).step_by(STRIDE).enumerate() {
        hostile.play(honest.clone().behind(Door::CutAfter(cut)));
        let answer = query().await;
        let found = by_source(&answer.json);
        match answer.status.as_u16() {
            200 if cut + HANDSHAKES_DIFFER >= whole => assert_eq!(found["cut"], titles("cut", 3), "cut at {cut}"),
            _ => {
                assert_eq!(answer.status, 502, "cut at {cut} of {whole}: {}", answer.text());
                assert!(found.is_empty(), "cut at {cut}: {}", answer.text());
                assert_eq!(answer.json["_sources"]["cut"]["status"], "unreachable", "cut at {cut}: {}", answer.text());
            }
        }
        if round % 50 == 49 {
            hostile.play(honest.clone());
            query().await.expect(200);
        }
    }
}
