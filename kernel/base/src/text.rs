//! Short texts without an allocator.

use core::fmt::Write;

/// Formats into a fixed buffer; what does not fit is cut off at a character boundary.
pub fn format_cut<const N: usize>(args: core::fmt::Arguments<'_>) -> heapless::String<N> {
    struct Cut<const N: usize>(heapless::String<N>);
    impl<const N: usize> Write for Cut<N> {
        fn write_str(&mut self, s: &str) -> core::fmt::Result {
            for c in s.chars() {
                if self.0.push(c).is_err() {
                    return Err(core::fmt::Error);
                }
            }
            Ok(())
        }
    }
    let mut out = Cut(heapless::String::new());
    // The only error is "full", and then the cut text is what was asked for.
    let _ = out.write_fmt(args);
    out.0
}
