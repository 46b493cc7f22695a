//! The pages of the sample application: plain HTML that works under a strict Content-Security-Policy.
use super::app::Caller;
use crate::serve::html::escaped;

/// The home page: who the gateway says you are, and whether the policy stops a script that has no nonce.
pub(super) fn home(caller: &Caller, nonce: &str) -> String {
    let Caller { tenant, subject, roles, request } = caller;
    let row = |name: &str, id: &str, value: &str| {
        let value = if value.is_empty() { "none".to_owned() } else { escaped(value) };
        format!("<tr><th>{name}<td id=\"{id}\">{value}\n")
    };
    let rows = [
        row("Tenant", "tenant", tenant),
        row("User", "user", subject),
        row("Roles", "roles", roles),
        row("Request", "request", request),
    ]
    .concat();
    let nonce = escaped(nonce);
    format!(
        r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Northlane bookings</title>
<style nonce="{nonce}">body {{ font: 16px/1.5 sans-serif; margin: 3rem }} th {{ text-align: left; padding-right: 2rem }}</style>
<h1>Northlane bookings</h1>
<p>This application has no login, no permission check and no security header of its own.
What it knows of you, the gateway in front told it:
<table>
{rows}</table>
<p>Script with the nonce of this response: <b id="ours">blocked</b>
<p>Script without it, as an injected one would be: <b id="injected">blocked</b>
<script nonce="{nonce}">document.getElementById("ours").textContent = "ran"</script>
<script>document.getElementById("injected").textContent = "ran"</script>
</html>
"#
    )
}

/// A public page.
pub(super) fn login() -> String {
    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Sign in</title>\n<h1>Sign in</h1>\n\
     <p>Anybody may see this page: its route says <code>public:</code> and why.\n</html>\n"
        .to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_breaks_out_of_text_or_attribute() {
        assert_eq!(super::escaped(r#"<a href="x">&'"#), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    }
}
