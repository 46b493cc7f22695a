//! How long a body that is looked into may keep us waiting.
use super::*;
use crate::serve::admit::Asked;
use decide::facts::Protocol;
use tokio::time::{Instant, sleep};

/// A client whose body is there after so long.
struct Slow {
    headers: HeaderMap,
    after: Duration,
}

impl Client for Slow {
    fn asked(&self) -> Asked<'_> {
        Asked {
            method: "POST",
            target: b"/login",
            authority: None,
            headers: &self.headers,
            protocol: Protocol::Http1,
            body: true,
            upgrade: false,
        }
    }

    async fn body(&mut self, _most: usize) -> Result<Vec<u8>, Refusal> {
        sleep(self.after).await;
        Ok(b"username=ann".to_vec())
    }

    async fn gone(&mut self) {
        std::future::pending().await
    }
}

/// By a clock that stands still and jumps: nobody waits.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_looked_into_has_a_minute() {
    let read = async |after| {
        let begun = Instant::now();
        let body = in_time(&mut Slow { headers: HeaderMap::new(), after }, 100).await;
        (body.map_err(|refusal| refusal.code), begun.elapsed().as_secs())
    };
    assert_eq!(read(Duration::from_secs(59)).await, (Ok(b"username=ann".to_vec()), 59));
    assert_eq!(read(Duration::from_secs(61)).await, (Err(Code::RequestTimeout), 60));
}
