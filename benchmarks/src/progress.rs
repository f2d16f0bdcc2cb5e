//! Progress bars, where a person waits.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar moves even if nothing happens, so that a person sees that the program lives.
const TICK: Duration = Duration::from_millis(100);

/// For the rows of generated data.
pub(crate) const DATA_BAR: &str = "{msg} {wide_bar} {human_pos} of {human_len} rows, {eta} left";

/// For the runs of queries.
pub(crate) const QUERY_BAR: &str = "{msg} {wide_bar} {pos} of {len}, {elapsed}";

/// A bar on standard error; hidden where that is no terminal.
pub(crate) fn bar(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::new(length);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.enable_steady_tick(TICK);
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_the_templates_of_the_bars_then_they_are_valid() {
        for template in [DATA_BAR, QUERY_BAR] {
            ProgressStyle::with_template(template).expect(template);
        }
    }
}
