//! Ways to look like somebody else to the gateway and like the same to the application.
use super::*;
use proptest::prelude::*;

fn key(source: FieldSource, name: &str) -> FieldKey {
    FieldKey { source, name: name.into() }
}

fn form(body: &str) -> Result<String, String> {
    told(read(Kind::Form, body.as_bytes(), None, &[&key(FieldSource::Form, "username")]))
}

fn json(body: &str) -> Result<String, String> {
    told(read(Kind::Json, body.as_bytes(), None, &[&key(FieldSource::Json, "username")]))
}

fn told(read: Result<Vec<FieldValue>, Refusal>) -> Result<String, String> {
    let fields = read.map_err(|refusal| format!("{} {}", refusal.code.status(), refusal.cause))?;
    Ok(fields.into_iter().map(|field| field.0).collect())
}

fn kind_of(content_type: &str, source: FieldSource) -> Result<Kind, u16> {
    let lines = [content_type.as_bytes()];
    kind(lines.into_iter(), std::iter::empty(), &[&key(source, "x")]).map_err(|refusal| refusal.code.status())
}

#[test]
fn a_field_is_found_whatever_stands_around_it() {
    for body in [
        "username=bob",
        "a=1&username=bob&password=x%26username%3Dann",
        "&&username=bob&",
        "password=&username=bob",
        "username=%62%6F%62",
        "%75sername=bob",
        "username=bob&password=a;b",
    ] {
        assert_eq!(form(body).as_deref(), Ok("bob"), "{body}");
    }
    for body in [
        r#"{"username":"bob"}"#,
        r#" {"a":{"username":"ann"},"username":"\u0062ob","b":[1]} "#,
        r#"{"\u0075sername":"bob","password":"{\"username\":1}"}"#,
    ] {
        assert_eq!(json(body).as_deref(), Ok("bob"), "{body}");
    }
    assert_eq!(json(r#"{"username":12345}"#).as_deref(), Ok("12345"));
    let nested = key(FieldSource::Json, "user.email");
    let body = br#"{"user":{"email":"A@example.com","x":1},"email":"other"}"#;
    assert_eq!(told(read(Kind::Json, body, None, &[&nested])).as_deref(), Ok("a@example.com"));
    let bracketed = key(FieldSource::Form, "user[email]");
    let body = b"user[name]=n&user%5Bemail%5D=a@example.com&user[password]=p";
    assert_eq!(told(read(Kind::Form, body, None, &[&bracketed])).as_deref(), Ok("a@example.com"));
}

#[test]
fn a_guesser_cannot_spell_one_account_in_two_ways() {
    for spelling in [
        "jose",
        "JOSE",
        " jose",
        "jose ",
        "jos\u{e9}",
        "jose\u{301}",
        "\u{ff2a}ose",
        "jo\u{200b}se",
        "j\u{f8}se",
        "jo\u{ad}se",
        "\u{feff}jose",
        "jose\0",
        "jo\u{17f}e",
        "\tjose\u{a0}",
    ] {
        let encoded: String = spelling.bytes().map(|b| format!("%{b:02X}")).collect();
        let same = spelling != "j\u{f8}se";
        assert_eq!(form(&format!("username={encoded}")).as_deref() == Ok("jose"), same, "{spelling:?}");
        let text = serde_json::to_string(spelling).unwrap();
        assert_eq!(json(&format!("{{\"username\":{text}}}")).as_deref() == Ok("jose"), same, "{spelling:?}");
    }
    assert_eq!(fold("STRASSE"), fold("stra\u{df}e"));
    assert_eq!(fold("\u{212a}elvin"), "kelvin");
    assert_eq!(fold("ΣΑΣ"), fold("σας"));
    assert_eq!(fold("a  b"), "a b");
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    for (body, cause) in [
        ("", "is missing"),
        ("user=bob", "is missing"),
        ("username=ann&username=bob", "stands twice"),
        ("username=ann&%75sername=bob", "stands twice"),
        ("username=ann&Username=bob", "looks like"),
        ("USERNAME=bob", "looks like"),
        ("username=ann&username[]=bob", "looks like"),
        ("username=ann&username%5B0%5D=bob", "looks like"),
        ("+username=bob", "looks like"),
        ("username%00=bob", "looks like"),
        ("\u{feff}username=bob", "looks like"),
        ("user%C2%ADname=bob", "looks like"),
        ("username=ann;username=bob", "semicolon"),
        ("x=1;username=bob&username=ann", "semicolon"),
        ("username=ann;x=1", "semicolon"),
        ("username=ann&username;x=1", "semicolon"),
        ("username=%", "no text"),
        ("username=%zz", "no text"),
        ("username=%ff", "no text"),
        ("username=ann&x%=1", "no text"),
        ("username=ann&%ffusername=bob", "no text"),
        ("_charset_=utf-7&username=bob", "charset"),
        ("username=bob&_charset_=iso-8859-1", "charset"),
        (r#"{"username":"bob"}"#, "is missing"),
    ] {
        let refused = form(body).unwrap_err();
        assert!(refused.starts_with("422 ") && refused.contains(cause), "{body}: {refused}");
    }
    let deep = format!(r#"{{"a":{}1{},"username":"bob"}}"#, "[".repeat(500), "]".repeat(500));
    for (body, cause) in [
        ("", "no JSON"),
        ("username=bob", "no JSON"),
        (r#"["username"]"#, "no JSON"),
        (r#"{"username":"ann","username":"bob"}"#, "stands twice"),
        (r#"{"username":"ann","\u0075sername":"bob"}"#, "stands twice"),
        (r#"{"username":"ann","Username":"bob"}"#, "looks like"),
        (r#"{"USERNAME":"bob"}"#, "looks like"),
        (r#"{"username":"ann","u\u017fername":"bob"}"#, "looks like"),
        (r#"{"username":{"$ne":null}}"#, "no text"),
        (r#"{"username":["bob"]}"#, "no text"),
        (r#"{"username":null}"#, "no text"),
        (r#"{"username":1e2}"#, "no text"),
        (r#"{"username":-1}"#, "no text"),
        (r#"{"username":"\ud800"}"#, "no JSON"),
        (r#"{"username":"bob"} {"username":"ann"}"#, "no JSON"),
        ("\u{feff}{\"username\":\"bob\"}", "no JSON"),
        (r#"{"username":"bob",}"#, "no JSON"),
        (r#"{"username":"bob"/**/}"#, "no JSON"),
        (&deep, "no JSON"),
    ] {
        let refused = json(body).unwrap_err();
        assert!(refused.starts_with("422 ") && refused.contains(cause), "{body}: {refused}");
    }
    let name = key(FieldSource::Form, "username");
    for query in ["username=bob", "a=1&Username=bob", "a;username=x", "user%6eame=bob", "%zz=1", "username"] {
        let refused = told(read(Kind::Form, b"username=ann", Some(query), &[&name])).unwrap_err();
        assert!(refused.contains("query"), "{query}: {refused}");
    }
    assert!(read(Kind::Form, b"username=ann", Some("next=/x&user=1"), &[&name]).is_ok());
}

#[test]
fn only_what_can_be_read_is_supported() {
    use FieldSource::{Any, Form, Json};
    for (content_type, source, expected) in [
        ("application/x-www-form-urlencoded", Form, Ok(Kind::Form)),
        ("Application/X-WWW-Form-URLEncoded; charset=UTF-8", Any, Ok(Kind::Form)),
        ("application/json;charset=\"utf-8\"", Json, Ok(Kind::Json)),
        ("application/vnd.api+json", Any, Ok(Kind::Json)),
        ("application/json", Form, Err(415)),
        ("application/x-www-form-urlencoded", Json, Err(415)),
        ("application/json; charset=utf-16", Json, Err(415)),
        ("application/x-www-form-urlencoded; charset=ibm037", Form, Err(415)),
        ("application/x-www-form-urlencoded; charset=utf-8; charset=utf-7", Form, Err(415)),
        ("application/x-www-form-urlencoded; charset", Form, Err(415)),
        ("application/json, application/x-www-form-urlencoded", Any, Err(415)),
        ("application/json; a=b, text/plain", Any, Err(415)),
        ("application/json; a=\u{e9}", Any, Err(415)),
        ("application/+json", Any, Err(415)),
        ("multipart/form-data; boundary=x", Any, Err(415)),
        ("text/plain", Any, Err(415)),
        ("text/json", Any, Err(415)),
        ("", Any, Err(415)),
    ] {
        assert_eq!(kind_of(content_type, source), expected, "{content_type}");
    }
    let form = [b"application/x-www-form-urlencoded".as_slice()];
    let name = key(Form, "x");
    let encoded = |encoding: &'static [u8]| kind(form.into_iter(), [encoding].into_iter(), &[&name]).is_ok();
    assert!(encoded(b"identity") && !encoded(b"gzip") && !encoded(b"br, identity"));
    assert!(kind(form.iter().chain(&form).copied(), std::iter::empty(), &[&name]).is_err(), "two of them");
    assert!(kind(std::iter::empty(), std::iter::empty(), &[&name]).is_err(), "none of them");
}

#[test]
fn a_value_cannot_be_printed() {
    assert_eq!(format!("{:?}", FieldValue("bob".to_owned())), "FieldValue");
}

proptest! {
    #[test]
    fn folding_twice_is_folding_once(text: String) {
        prop_assert_eq!(fold(&fold(&text)), fold(&text));
    }

    #[test]
    fn any_text_comes_back_from_either_kind_of_body(text: String) {
        let encoded: String = text.bytes().map(|b| format!("%{b:02x}")).collect();
        prop_assert_eq!(form(&format!("username={encoded}")), Ok(fold(&text)));
        let quoted = serde_json::to_string(&text).unwrap();
        prop_assert_eq!(json(&format!("{{\"username\":{quoted}}}")), Ok(fold(&text)));
    }

    #[test]
    fn no_body_is_too_strange(body: Vec<u8>, query: String) {
        let name = key(FieldSource::Any, "username");
        let _ = read(Kind::Form, &body, Some(&query), &[&name]);
        let _ = read(Kind::Json, &body, Some(&query), &[&name]);
    }

    /// Whatever stands before and after it, a second field of that name is seen.
    #[test]
    fn a_second_field_never_hides(before in "[a-z=%0-9;&+]{0,12}", after in "[a-z=%0-9;&+]{0,12}") {
        let body = format!("username=ann&{before}&username=bob&{after}");
        prop_assert!(form(&body).is_err());
    }
}
