//! The pages on which users set an app up and type codes: without scripts, styles or anything from elsewhere.
use crate::config::settings::Totp;
use crate::serve::html::Html;
use decide::facts::Identity;
use decide::totp::Secret;
use qrcodegen::{QrCode, QrCodeEcc};

/// Light modules around a picture (ISO/IEC 18004, 6.3.8).
const QUIET: i32 = 4;

fn begin(title: &'static str) -> Html {
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width\"><title>")
        .raw(title)
        .raw("</title></head>\n<body><h1>");
    html.raw(title).raw("</h1>\n");
    html
}

fn form(html: &mut Html, back: &str) {
    html.raw("<form method=\"post\" action=\"/.moat/totp\"><input type=\"hidden\" name=\"return\" value=\"");
    html.text(back).raw("\">");
}

fn code(html: &mut Html, back: &str, hint: Option<&str>) {
    if let Some(hint) = hint {
        html.raw("<p role=\"alert\">").text(hint).raw("</p>\n");
    }
    form(html, back);
    html.raw(
        "<label>Code <input name=\"code\" autocomplete=\"one-time-code\" autocapitalize=\"characters\" spellcheck=\"false\" \
         maxlength=\"32\" required autofocus></label> <button>Continue</button></form>\n",
    );
}

/// The user has no app.
pub(super) fn offer(settings: &Totp, back: &str) -> Html {
    let mut html = begin("Set up an authenticator app");
    html.raw("<p>").text(&settings.issuer).raw(" asks for a code of an app on your phone besides your sign-in.</p>\n");
    form(&mut html, back);
    html.raw("<input type=\"hidden\" name=\"do\" value=\"enrol\"><button>Set up</button></form></body></html>\n");
    html
}

/// The user has no app, and signed in too long ago to set one up; `again` leads to sign in, where there is such a place.
pub(super) fn sign_in_first(settings: &Totp, again: Option<&str>) -> Html {
    let mut html = begin("Set up an authenticator app");
    html.raw("<p>").text(&settings.issuer).raw(" asks for a code of an app on your phone besides your sign-in. ");
    html.raw("It can be set up right after signing in only.</p>\n");
    if let Some(again) = again {
        html.raw("<p><a href=\"").text(again).raw("\">Sign in again</a></p>");
    }
    html.raw("</body></html>\n");
    html
}

/// The user has a secret of which no code has come.
pub(super) fn confirm(settings: &Totp, identity: &Identity, secret: &Secret, back: &str, hint: Option<&str>) -> Html {
    let mut html = begin("Set up an authenticator app");
    html.raw("<p>Scan this picture with the app, or type the key into it. Then type the code that it shows.</p>\n");
    picture(&mut html, &secret.uri(&settings.issuer, &identity.subject.0));
    html.raw("<p>Key: <code>").text(secret.text()).raw("</code></p>\n");
    code(&mut html, back, hint);
    html.raw("</body></html>\n");
    html
}

/// The user has an app.
pub(super) fn ask(back: &str, hint: Option<&str>) -> Html {
    let mut html = begin("Confirm that it is you");
    html.raw("<p>Type the code that your authenticator app shows, or a recovery code.</p>\n");
    code(&mut html, back, hint);
    html.raw("</body></html>\n");
    html
}

/// Recovery codes, this once.
pub(super) fn recovery(codes: &[String], back: &str) -> Html {
    let mut html = begin("Keep your recovery codes");
    html.raw("<p>Each of them stands in for the app once, should you lose it. They are not shown again.</p>\n<ul>\n");
    for code in codes {
        html.raw("<li><code>").text(code).raw("</code></li>\n");
    }
    html.raw("</ul>\n<p><a href=\"").text(back).raw("\">I have kept them: continue</a></p></body></html>\n");
    html
}

/// The URI as a picture (ISO/IEC 18004). One that is too long for a picture has none: there is the key to type.
fn picture(html: &mut Html, uri: &str) {
    let Ok(code) = QrCode::encode_text(uri, QrCodeEcc::Medium) else { return };
    let size = code.size() + 2 * QUIET;
    html.raw("<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"the key as a picture\" width=\"256\" height=\"256\" ");
    html.raw("shape-rendering=\"crispEdges\" viewBox=\"0 0 ").number(size, 0).raw(" ").number(size, 0).raw("\">");
    html.raw("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><path fill=\"#000\" d=\"");
    for y in 0..code.size() {
        for x in (0..code.size()).filter(|x| code.get_module(*x, y)) {
            html.raw("M").number(x + QUIET, 0).raw(" ").number(y + QUIET, 0).raw("h1v1h-1z");
        }
    }
    html.raw("\"/></svg>\n");
}
