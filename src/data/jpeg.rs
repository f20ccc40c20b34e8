//! Checks of JPEG data before it is decoded: the decoder passes over some faults in silence, and
//! calls what it does not know damaged.

/// Problem that keeps JPEG data from being decoded rightly, if there is one. The decoder fills
/// missing rows with grey and reports nothing, so data that is cut short would otherwise be trained
/// on. It also reads the colours of baseline data that come in scans of their own as stripes
/// (zune-jpeg 0.5.15; issues 419 and 422 of zune-image).
pub fn problem(bytes: &[u8]) -> Option<&'static str> {
    let mut at = 2; // after the start marker
    let mut frame = Frame::default();
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (0xff, 0xd9) => return None,
            // Fill bytes, stuffed data bytes and restart markers carry no length.
            (0xff, 0xff) => at += 1,
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            // A segment; its length covers itself. Skipping it skips the end marker of an embedded
            // preview.
            (0xff, marker) => {
                let Some(length) = bytes.get(at + 2..at + 4) else { break };
                let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
                let segment = bytes.get(at + 4..at + 2 + length).unwrap_or_default();
                if let Some(problem) = frame.sees(marker, segment) {
                    return Some(problem);
                }
                at += 2 + length;
            }
            _ => at += 1, // entropy-coded data
        }
    }
    Some("the JPEG data is cut short")
}

/// Facts in the header of the frame.
#[derive(Default)]
struct Frame {
    is_sequential: bool,
    colours: u8,
}

impl Frame {
    fn sees(&mut self, marker: u8, segment: &[u8]) -> Option<&'static str> {
        match marker {
            0xc9..=0xcb | 0xcd..=0xcf => {
                return Some(
                    "its arithmetic coding is not supported; convert it, for example by jpegtran -optimize",
                );
            }
            0xc0 | 0xc1 => {
                self.is_sequential = true;
                self.colours = segment.get(5).copied().unwrap_or(0);
            }
            0xda if self.is_sequential && segment.first().is_some_and(|&n| n < self.colours) => {
                return Some(
                    "its colours come in scans of their own, which is not supported; convert it, for example by \
                     jpegtran -optimize",
                );
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of a frame with so many colours, and a scan of so many of them.
    fn image(frame: u8, colours: u8, scan: u8) -> Vec<u8> {
        let mut bytes = vec![0xff, 0xd8, 0xff, frame, 0, 8, 8, 0, 16, 0, 16, colours];
        bytes.extend([0xff, 0xda, 0, 3, scan, 1, 2, 0xff, 0, 3, 0xff, 0xd9]);
        bytes
    }

    #[test]
    fn what_the_decoder_reads_wrongly_is_refused() {
        for (frame, colours, scan) in [(0xc0, 3, 3), (0xc0, 1, 1), (0xc2, 3, 1), (0xc1, 4, 4)] {
            assert_eq!(problem(&image(frame, colours, scan)), None, "{frame:x}, {colours}, {scan}");
        }
        for frame in [0xc0, 0xc1] {
            assert!(problem(&image(frame, 3, 1)).unwrap().contains("scans of their own"));
        }
        for frame in [0xc9, 0xca] {
            assert!(problem(&image(frame, 3, 3)).unwrap().contains("arithmetic"));
        }
        let whole = image(0xc0, 3, 3);
        assert!((2..whole.len()).all(|kept| problem(&whole[..kept]).unwrap().contains("cut short")));
    }
}
