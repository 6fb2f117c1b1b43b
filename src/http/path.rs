//! Values in paths.

use std::str::FromStr;

use actix_web::HttpRequest;
use mosaic_actors::domain::fault::Fault;

/// One percent-decoded segment of the path. A segment that is not UTF-8: 400.
pub fn path_text(request: &HttpRequest, name: &str) -> Result<String, Fault> {
    let raw = request.match_info().get(name).unwrap_or_default();
    let (mut decoded, mut bytes) = (Vec::with_capacity(raw.len()), raw.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
                let [Some(high), Some(low)] = digits else { return Err(not_text(name)) };
                decoded.push(u8::try_from(high * 16 + low).map_err(|_| not_text(name))?);
            }
            other => decoded.push(other),
        }
    }
    String::from_utf8(decoded).map_err(|_| not_text(name))
}

/// A segment of the path as a value, such as an id: 400 names the segment when it is none.
pub fn path_value<T: FromStr>(request: &HttpRequest, name: &str) -> Result<T, Fault> {
    path_text(request, name)?
        .parse()
        .map_err(|_| Fault::invalid(format!("'{name}' in the path does not have the form of such a value")))
}

fn not_text(name: &str) -> Fault {
    Fault::invalid(format!("'{name}' in the path is not percent-encoded UTF-8"))
}
