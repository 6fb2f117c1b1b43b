//! An owner that misbehaves while a site enrols with it: no link, a clear refusal, and the next invite works.

use super::*;
use crate::harness::hostile::Enrolment;

/// What an owner does and what a person is told.
type Lie = (&'static str, Box<dyn Fn(&Hostile, u16)>, &'static str);

fn lies() -> Vec<Lie> {
    let honest_tls = |hostile: &Hostile| hostile.authority.server(&Passport::default(), None);
    let acts = move |acts: Vec<Act>| -> Box<dyn Fn(&Hostile, u16)> {
        Box::new(move |hostile, _| {
            let acts = acts.clone();
            hostile.enrolls(honest_tls(hostile), move |_| acts.clone());
        })
    };
    let grants = move |alter: fn(&mut Value), life: (time::Duration, time::Duration)| -> Box<dyn Fn(&Hostile, u16)> {
        Box::new(move |hostile, _| {
            hostile.enrolls(honest_tls(hostile), move |enrolment| {
                let mut granted = enrolment.granted(life);
                alter(&mut granted);
                vec![Act::Say(ok(&granted.to_string()))]
            });
        })
    };
    let shows = |passport: Passport| -> Box<dyn Fn(&Hostile, u16)> {
        Box::new(move |hostile, _| {
            let tls = hostile.authority.server(&passport, None);
            hostile.enrolls(tls, |enrolment| vec![Act::Say(ok(&enrolment.granted(A_DAY).to_string()))]);
        })
    };
    let unusable = "the other site issued a certificate that cannot be used";
    let no_proof = "the other site did not prove to be the one that the invite names";
    let no_answer = "the other site's answer is not that of an enrolment";
    let minutes = time::Duration::minutes;
    vec![
        (
            "another root",
            Box::new(|hostile, _| {
                let another = Authority::new("another");
                hostile.enrolls(another.server(&Passport::default(), None), |_| vec![Act::Stay]);
            }),
            no_proof,
        ),
        ("another host", shows(Passport { names: vec!["elsewhere.example".into()], ..Passport::default() }), no_proof),
        ("expired", shows(Passport { life: (minutes(-60), minutes(-1)), ..Passport::default() }), no_proof),
        (
            "another key",
            Box::new(move |hostile, _| {
                let (_, csr) = crate::harness::asker::new_csr();
                hostile.enrolls(honest_tls(hostile), move |enrolment| {
                    vec![Act::Say(ok(&enrolment.granted_for(&csr, A_DAY).to_string()))]
                });
            }),
            unusable,
        ),
        ("a certificate that has expired", grants(|_| {}, (minutes(-120), minutes(-60))), unusable),
        (
            "a certificate of another root",
            Box::new(move |hostile, _| {
                let another = Arc::new(Authority::new("another"));
                hostile.enrolls(honest_tls(hostile), move |enrolment| {
                    let theirs = Enrolment { authority: Arc::clone(&another), ..enrolment.clone() };
                    vec![Act::Say(ok(&theirs.granted(A_DAY).to_string()))]
                });
            }),
            unusable,
        ),
        (
            "another site's name",
            grants(|granted| granted["site"] = json!("home"), A_DAY),
            "the other site gave another name than its invite",
        ),
        (
            "no grant",
            grants(|granted| granted["grant_id"] = json!("none"), A_DAY),
            "the other site named no grant or no subject",
        ),
        ("html", acts(vec![Act::Say(answer("200 OK", "content-type: text/html\r\n", "<h1>"))]), no_answer),
        ("depth", acts(vec![Act::Say(ok(&"[".repeat(100_000)))]), no_answer),
        ("size", acts(vec![Act::Say(chunked_head("")), Act::Flood(chunk(&[b' '; 16_384]))]), ""),
        ("reset", acts(vec![Act::Reset]), "the other site did not finish its answer"),
        (
            "cut",
            acts(vec![Act::Say(b"HTTP/1.1 200 OK\r\n".to_vec()), Act::Cut]),
            "the other site did not finish its answer",
        ),
        (
            "redirect",
            Box::new(move |hostile, trap| {
                let to = format!("location: https://127.0.0.1:{trap}/\r\n");
                hostile
                    .enrolls(honest_tls(hostile), move |_| vec![Act::Say(answer("307 Temporary Redirect", &to, ""))]);
            }),
            "",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_lies_at_enrolment_gets_no_link_and_the_honest_one_does() {
    let trap = Trap::set().await;
    let home = Node::start("home").await;
    home.user("ada").await;
    let hostile = Hostile::start("liar").await;
    let enrol = || async {
        let body = json!({ "invite": hostile.invite(), "user": "ada", "allow_private": true });
        home.admin().post("/api/admin/v1/links", body).await
    };
    for (name, lie, told) in lies() {
        lie(&hostile, trap.port);
        let refused: Answer = enrol().await;
        assert!(refused.status.is_server_error() || refused.status.is_client_error(), "{name}: {}", refused.text());
        let status = refused.status.as_u16();
        let (_, message) = refused.error(status);
        assert!(message.contains(told), "{name}: {message}");
        assert!(!message.contains("127.0.0.1"), "{name}: {message}");
        let links = home.admin().get("/api/admin/v1/links").await.expect(200);
        assert_eq!(items(&links), Vec::<Value>::new(), "{name}");
    }
    assert_eq!(trap.caught.load(Ordering::SeqCst), 0, "a redirect was followed");
    hostile.enrolls(hostile.authority.server(&Passport::default(), None), |enrolment| {
        vec![Act::Say(ok(&enrolment.granted(A_DAY).to_string()))]
    });
    link(&home, &hostile).await;
}
