//! What commands print. A reader that goes away, as in `broadcaster doctor | head -1`, has read
//! enough: that ends neither the command nor changes how it ends.

use std::fmt;
use std::io::{ErrorKind, Write as _};

/// Prints text. Gives whether it was written, which matters where nothing else says it again.
pub(crate) fn text(text: fmt::Arguments<'_>) -> bool {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            // A disk that is full, say, where whoever asked wants to know. Nobody may hear it.
            let _ =
                writeln!(std::io::stderr(), "broadcaster: the output cannot be written: {error}");
            false
        }
        Ok(()) | Err(_) => true,
    }
}

/// Prints a line, as `println!` does. Gives whether it was written.
macro_rules! line {
    () => { $crate::say::text(format_args!("\n")) };
    ($format:literal $($rest:tt)*) => {
        $crate::say::text(format_args!("{}\n", format_args!($format $($rest)*)))
    };
}

pub(crate) use line;
