//! How often and how fast something is tried again.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use cocoon_http::Response;
use http::header;

/// The longest pause of our own choosing.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often and how fast something is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Tries in a row without progress, the first included.
    pub attempts: u32,
    /// Pause after the first failure; it doubles each time, up to 5 seconds, and up to half of it is left out by chance
    /// so that many guests that failed together do not come back together.
    pub pause: Duration,
    /// A transfer counts as stalled where it brings less than 16 KiB in this much waiting, however it drips.
    pub drip: Duration,
    /// How long a blob may take at one place before [`Retry::slowest`] counts, in waiting for the network of any kind;
    /// what the consumer of the stream takes for itself does not count.
    pub grace: Duration,
    /// After the grace, the least average of a blob's transfer at one place, in bytes a second; whoever is slower is
    /// given up without another try. With the default of 32 KiB a layer of 100 MiB takes less than an hour or fails,
    /// and three at once want a line of 0.8 Mbit/s.
    pub slowest: u64,
    /// The longest pause that a registry may ask for (`Retry-After` in seconds); a longer one is cut to this.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 5,
            pause: Duration::from_millis(100),
            drip: Duration::from_secs(60),
            grace: Duration::from_secs(120),
            slowest: 32 * 1024,
            longest: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// Waits before the try after `failures` failures, at least as long as the registry `asked` for.
    pub(crate) async fn wait(&self, failures: u32, asked: Option<Duration>) {
        tokio::time::sleep(self.pause_after(failures, asked)).await;
    }

    /// Whether a transfer of so many bytes should have been over before `spent`.
    pub(crate) fn is_too_slow(&self, spent: Duration, bytes: u64) -> bool {
        spent > self.grace.saturating_add(Duration::from_secs(bytes / self.slowest.max(1)))
    }

    fn pause_after(&self, failures: u32, asked: Option<Duration>) -> Duration {
        let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
        let pause = self.pause.saturating_mul(factor).min(LONGEST_PAUSE);
        // Chance enough for spreading: the standard library seeds its hashers at random.
        let chance = std::hash::RandomState::new().build_hasher().finish() % 512;
        let left_out = pause.saturating_mul(u32::try_from(chance).unwrap_or(0)) / 1024;
        pause.saturating_sub(left_out).max(asked.unwrap_or_default().min(self.longest))
    }
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3); the form with a date is left to the usual pauses.
pub(crate) fn retry_after(answer: &Response) -> Option<Duration> {
    let field = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    field.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_vary_and_end() {
        let retry = Retry::default();
        let ms = Duration::from_millis;
        for (failures, most) in [(1, 100), (2, 200), (4, 800), (7, 5000), (u32::MAX, 5000)] {
            let pause = retry.pause_after(failures, None);
            assert!(pause <= ms(most) && pause >= ms(most) / 2, "{failures}: {pause:?}");
        }
        let spread: std::collections::HashSet<_> = (0..50).map(|_| retry.pause_after(7, None)).collect();
        assert!(spread.len() > 10);
        assert_eq!(retry.pause_after(1, Some(ms(7000))), ms(7000));
        assert_eq!(retry.pause_after(1, Some(Duration::MAX)), ms(30_000));
    }
}
