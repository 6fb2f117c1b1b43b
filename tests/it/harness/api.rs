use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client of one node's `api` listener with one bearer token.
#[derive(Clone)]
pub(crate) struct Api {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
}

/// What came back. `bytes` is the body as it was sent.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) json: Value,
}

impl Answer {
    /// The body, if the answer has this status; else the test fails and shows the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self.json
    }

    /// `error.code` of an answer with this status.
    #[track_caller]
    pub(crate) fn error(self, status: u16) -> (String, String) {
        let json = self.expect(status);
        let text = |key: &str| json["error"][key].as_str().unwrap_or_default().to_owned();
        assert!(!text("request_id").is_empty(), "an error names its request: {json}");
        (text("code"), text("message"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Api {
    pub(crate) fn new(base: &str, token: Option<&str>) -> Self {
        mosaic::tls::install_default_provider();
        let http = reqwest::Client::builder().no_proxy().build().expect("a plain client");
        Self { base: base.to_owned(), token: token.map(str::to_owned), http }
    }

    /// The bearer token, for a request that is written by hand.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("a client with a token")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body.to_string())).await
    }

    pub(crate) async fn post_text(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send(Method::POST, path, Some(body.into())).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body.to_string())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    pub(crate) async fn query(&self, body: Value) -> Answer {
        self.post("/api/v1/query", body).await
    }

    /// A streamed answer, read to its end.
    pub(crate) async fn stream(&self, body: Value) -> Answer {
        let request = self.http.post(format!("{}/api/v1/query", self.base)).bearer_auth(self.token());
        let request = request.header("accept", "application/x-ndjson").header("content-type", "application/json");
        answer(request.body(body.to_string()).send().await.expect("the api listener answers")).await
    }

    /// Whether a new connection gets an answer.
    pub(crate) async fn reaches(&self) -> Result<(), reqwest::Error> {
        let fresh = reqwest::Client::builder().no_proxy().timeout(std::time::Duration::from_millis(500)).build()?;
        fresh.get(format!("{}/healthz", self.base)).send().await.map(|_| ())
    }

    /// The same answer as a stream, put together again: its rows as `items` of its last line.
    pub(crate) async fn stream_whole(&self, body: Value) -> Answer {
        let request = self.http.post(format!("{}/api/v1/query", self.base)).bearer_auth(self.token());
        let request = request.header("accept", "application/x-ndjson").header("content-type", "application/json");
        let mut answer = answer(request.body(body.to_string()).send().await.expect("the api listener answers")).await;
        if answer.headers["content-type"] == "application/x-ndjson" {
            let mut lines: Vec<Value> =
                answer.text().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
            answer.json = lines.pop().expect("a last line");
            answer.json["items"] = Value::Array(lines);
        }
        answer
    }

    async fn send(&self, method: Method, path: &str, body: Option<String>) -> Answer {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        answer(request.send().await.expect("the api listener answers")).await
    }

    /// As [`Api::post`], to a node that may die before it answers.
    pub(crate) async fn try_post(&self, path: &str, body: Value) -> Option<Answer> {
        let request = self.http.post(format!("{}{path}", self.base)).bearer_auth(self.token());
        let request = request.header("content-type", "application/json").body(body.to_string());
        Some(answer(request.send().await.ok()?).await)
    }
}

/// Reads an answer whole.
pub(crate) async fn answer(response: reqwest::Response) -> Answer {
    let (status, headers) = (response.status(), response.headers().clone());
    let bytes = response.bytes().await.expect("a whole body").to_vec();
    let json = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Answer { status, headers, bytes, json }
}
