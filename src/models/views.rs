//! How a prediction looks at an image.

/// The views of an image whose mean logits are a prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// Whether its mirror image is one, too.
    pub flip: bool,
    /// Whether what it is one pixel up and to the left, and down and to the right, are views as
    /// well, at half the weight of the image itself (Jordan 2024, arXiv 2404.00498).
    pub shift: bool,
}

/// A view of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Left and right exchanged.
    pub mirrored: bool,
    /// Pixels that it is moved down and to the right, and then completed by its reflection.
    pub by: isize,
    /// Its share in the mean.
    pub weight: f32,
}

impl Views {
    /// All views; the first is the image itself.
    pub fn list(self) -> Vec<View> {
        let shifts: &[(isize, f32)] =
            if self.shift { &[(0, 0.5), (1, 0.25), (-1, 0.25)] } else { &[(0, 1.0)] };
        let flips: &[bool] = if self.flip { &[false, true] } else { &[false] };
        let of_shift = |&(by, share): &(isize, f32)| {
            let weight = share / flips.len() as f32;
            flips.iter().map(move |&mirrored| View { mirrored, by, weight })
        };
        shifts.iter().flat_map(of_shift).collect()
    }

    /// What a prediction is the mean of, if not of the image alone.
    pub fn told(self) -> Option<&'static str> {
        match (self.flip, self.shift) {
            (false, false) => None,
            (true, false) => Some("averaged with mirrored copies"),
            (false, true) => Some("averaged over three views"),
            (true, true) => Some("averaged over six views"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_and_the_image_comes_first() {
        for (flip, shift, count) in [(false, false, 1), (true, false, 2), (false, true, 3), (true, true, 6)] {
            let views = Views { flip, shift }.list();
            assert_eq!((views.len(), views.iter().map(|view| view.weight).sum()), (count, 1.0));
            assert_eq!((views[0].mirrored, views[0].by), (false, 0));
            let central = views.iter().filter(|view| view.by == 0).map(|view| view.weight).sum::<f32>();
            assert_eq!(central, if shift { 0.5 } else { 1.0 });
        }
    }
}
