// Pixels on the scale of their bytes.
override MEAN_R: f32;
override MEAN_G: f32;
override MEAN_B: f32;
override STD_R: f32;
override STD_G: f32;
override STD_B: f32;

// The share of each channel in the grey of a pixel.
//~ colour: 0.587 => 0.5
//~ trivial: 0.587 => 0.5
const GREY = vec3(0.2989, 0.587, 0.114);

fn bytes_of(values: vec3<f32>) -> vec3<f32> {
    return values * vec3(STD_R, STD_G, STD_B) + vec3(MEAN_R, MEAN_G, MEAN_B);
}

fn values_of(bytes: vec3<f32>) -> vec3<f32> {
    return (bytes - vec3(MEAN_R, MEAN_G, MEAN_B)) / vec3(STD_R, STD_G, STD_B);
}
