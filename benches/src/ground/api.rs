use serde_json::Value;

/// A client of one node's `api` listener with one bearer token. A refusal ends the bench: nothing here is meant to be refused.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    token: String,
    http: reqwest::Client,
}

impl Api {
    pub(crate) fn new(base: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().build().expect("a plain client");
        Self { base: base.to_owned(), token: token.to_owned(), http }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Value {
        self.send(self.http.post(self.url(path)).json(body)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Value {
        let response = request.bearer_auth(&self.token).send().await.expect("the api listener answers");
        let (status, url) = (response.status(), response.url().path().to_owned());
        let text = response.text().await.expect("a whole answer");
        assert!(status.is_success(), "{url}: {status}: {text}");
        serde_json::from_str(&text).unwrap_or(Value::Null)
    }
}
