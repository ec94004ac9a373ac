//! What commands print. A reader that goes away, as in `broadcaster doctor | head -1`, has read
//! enough: that ends neither the command nor changes how it ends.

use std::fmt;
use std::io::{ErrorKind, Write as _};

/// Prints text.
pub(crate) fn text(text: fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush())
        && error.kind() != ErrorKind::BrokenPipe
    {
        // A disk that is full, say, where whoever asked wants to know. Nobody may hear it.
        let _ = writeln!(std::io::stderr(), "broadcaster: the output cannot be written: {error}");
    }
}

/// Prints a line, as `println!` does.
macro_rules! line {
    () => { $crate::say::text(format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::say::text(format_args!("{}\n", format_args!($format $($rest)*)))
    };
}

pub(crate) use line;
