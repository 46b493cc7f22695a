//! The status page: one document as HTML, without scripts, readable on a phone and at three in the morning.
use super::document::{Document, Severity};
use super::sections;
use super::words::plural;
use crate::serve::html::Html;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::sync::LazyLock;

const STYLE: &str = include_str!("style.css");

/// The Content-Security-Policy of the page: nothing but the one style sheet in it, which is named by its hash.
pub fn policy() -> &'static str {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, STYLE.as_bytes());
        let hash = STANDARD.encode(digest.as_ref());
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    &POLICY
}

/// Seconds between refreshes that can be asked for with `refresh`.
const REFRESH: std::ops::RangeInclusive<u32> = 1..=3600;

/// How the page is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Seconds after which the browser asks again; `None` for never.
    pub refresh_s: Option<u32>,
}

impl Page {
    /// Reads `?refresh=5`; anything else in the query means nothing.
    pub fn of_query(query: &str) -> Page {
        let wanted = query.split('&').find_map(|part| part.strip_prefix("refresh="));
        let refresh_s = wanted.and_then(|text| text.parse().ok()).filter(|seconds| REFRESH.contains(seconds));
        Page { refresh_s }
    }

    /// The page.
    pub fn render(self, document: &Document) -> String {
        let mut html = Html::default();
        html.raw("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
            .raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n")
            .raw("<meta name=\"robots\" content=\"noindex\">\n");
        if let Some(seconds) = self.refresh_s {
            html.raw("<meta http-equiv=\"refresh\" content=\"").number(seconds, 0).raw("\">\n");
        }
        let (problems, warnings) = (count(document, Severity::Problem), count(document, Severity::Warning));
        html.raw("<title>");
        match (problems, warnings) {
            (0, 0) => html.text("ok"),
            (0, n) => html.text(plural(n, "warning")),
            (n, _) => html.text(plural(n, "problem")),
        };
        html.text(format!(" · {} · moat", document.gateway.instance));
        html.raw("</title>\n<style>").raw(STYLE).raw("</style>\n</head>\n<body>\n");
        sections::head(&mut html, document, (problems, warnings));
        self.links(&mut html);
        html.raw("<main>\n");
        sections::body(&mut html, document);
        html.raw("</main>\n<footer>")
            .text("Made ")
            .text(&document.at)
            .text(". Rates, quantiles and counts by code span the last ");
        html.number(document.window_s, 0).text(
            " s. Quantiles are guessed within the buckets of a histogram: the bound after `<` is certain, the figure is not.",
        );
        html.raw("</footer>\n</body>\n</html>\n");
        html.finish()
    }

    fn links(self, html: &mut Html) {
        html.raw("<nav>Refresh: ");
        for (seconds, link) in [
            (None, "<a href=\"?\">off</a> "),
            (Some(5), "<a href=\"?refresh=5\">5 s</a> "),
            (Some(30), "<a href=\"?refresh=30\">30 s</a> "),
        ] {
            if seconds == self.refresh_s {
                html.raw("<b>").raw(link).raw("</b>");
            } else {
                html.raw(link);
            }
        }
        html.raw("<a href=\"/status.json\">JSON</a><br>\n");
        html.raw("<a href=\"#routes\">Routes</a><a href=\"#upstreams\">Upstreams</a><a href=\"#tenants\">Tenants</a>")
            .raw("<a href=\"#configuration\">Configuration</a><a href=\"#certificates\">Certificates</a>")
            .raw("<a href=\"#issuers\">Key sets</a><a href=\"#audit\">Audit</a><a href=\"#listeners\">Listeners</a>")
            .raw("<a href=\"#limits\">Limits</a><a href=\"#refusals\">Last refusals</a></nav>\n");
    }
}

fn count(document: &Document, severity: Severity) -> usize {
    document.findings.iter().filter(|finding| finding.severity == severity).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sane_refresh_is_taken() {
        let of = |query| Page::of_query(query).refresh_s;
        assert_eq!((of("refresh=5"), of("a=b&refresh=30")), (Some(5), Some(30)));
        for query in ["", "refresh=", "refresh=0", "refresh=99999", "refresh=5;url=http://evil.example", "refresh=-1"] {
            assert_eq!(of(query), None, "{query}");
        }
    }

    #[test]
    fn the_policy_allows_one_style_sheet_and_nothing_else() {
        assert!(policy().starts_with("default-src 'none'; style-src 'sha256-") && !policy().contains("unsafe"));
    }
}
