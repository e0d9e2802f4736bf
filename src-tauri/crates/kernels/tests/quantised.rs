//! Codes and scales against those of bitsandbytes, for random and for hard blocks, to the bit.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a failed test")]

use std::{collections::HashMap, path::PathBuf};

use candle_core::{DType, Device, Tensor};
use kernels::{Codes, DynamicMap, Quantised, Scales};

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../tests/golden/quant"))
}

struct Golden(HashMap<String, Tensor>);

impl Golden {
    fn read() -> Self {
        let path = folder().join("blocks.safetensors");
        Golden(candle_core::safetensors::load(path, &Device::Cpu).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        self.0[name].flatten_all().unwrap().to_vec1().unwrap()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let tensor = self.0[name].flatten_all().unwrap();
        match tensor.dtype() {
            DType::U8 => tensor.to_vec1().unwrap(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The inputs by name, with their shape.
    fn inputs(&self) -> Vec<(String, (usize, usize), Vec<f32>)> {
        let mut names: Vec<&str> = self.0.keys().filter_map(|name| name.strip_suffix(".input")).collect();
        names.sort_unstable();
        let of = |name: &&str| {
            let tensor = &self.0[&format!("{name}.input")];
            ((*name).to_owned(), tensor.dims2().unwrap(), tensor.flatten_all().unwrap().to_vec1().unwrap())
        };
        names.iter().map(of).collect()
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn four_bit_codes_and_scales_are_those_of_bitsandbytes() {
    let golden = Golden::read();
    assert_eq!(golden.inputs().len(), 12);
    for (name, shape, values) in golden.inputs() {
        for (codes, kind) in [(Codes::Nf4, "nf4"), (Codes::Fp4, "fp4")] {
            let what = format!("{name}.{kind}");
            let found = Quantised::new(codes, false, shape, &values).unwrap();
            assert_eq!(found.packed(), golden.bytes(&format!("{what}.packed")), "{what}");
            let Scales::Plain(scales) = found.scales() else { panic!("plain scales") };
            assert_eq!(bits(scales), bits(&golden.floats(&format!("{what}.scales"))), "{what}");
            if golden.0.contains_key(&format!("{what}.values")) {
                let want = golden.floats(&format!("{what}.values"));
                for (got, want) in found.to_vec().iter().zip(want) {
                    assert!((got - want).abs() <= 1e-6 * want.abs(), "{what}: {got}, not {want}");
                }
            }
        }
    }
}

#[test]
fn nested_scales_are_those_of_bitsandbytes() {
    let golden = Golden::read();
    for (name, shape, values) in golden.inputs() {
        for (codes, kind) in [(Codes::Nf4, "nf4"), (Codes::Fp4, "fp4")] {
            let what = format!("{name}.{kind}");
            let found = Quantised::new(codes, true, shape, &values).unwrap();
            assert_eq!(found.packed(), golden.bytes(&format!("{what}.packed")), "{what}");
            let Scales::Nested { codes, scales, offset } = found.scales() else { panic!("nested scales") };
            let want = golden.floats(&format!("{what}.offset"))[0];
            // The mean of many numbers depends on the order they are summed in.
            assert!((offset - want).abs() <= 3e-7 * want.abs(), "{what}: {offset}, not {want}");
            assert_eq!(codes, &golden.bytes(&format!("{what}.nested_codes")), "{what}");
            for (got, want) in scales.iter().zip(golden.floats(&format!("{what}.nested_scales"))) {
                assert!(
                    (got - want).abs() <= 1e-6 * want.abs().max(offset.abs()),
                    "{what}: {got}, not {want}"
                );
            }
        }
    }
}

#[test]
fn integers_and_scales_of_rows_are_those_of_bitsandbytes() {
    let golden = Golden::read();
    for (name, shape, values) in golden.inputs() {
        let found = Quantised::new(Codes::Int8, false, shape, &values).unwrap();
        let want: Vec<u8> = golden.bytes(&format!("{name}.int8.packed"));
        assert_eq!(found.packed(), want, "{name}");
        let Scales::Plain(scales) = found.scales() else { panic!("plain scales") };
        assert_eq!(bits(scales), bits(&golden.floats(&format!("{name}.int8.scales"))), "{name}");
    }
}

#[test]
fn dynamic_maps_are_those_of_bitsandbytes() {
    let golden = Golden::read();
    for (map, name) in [(DynamicMap::signed(), "map.signed"), (DynamicMap::unsigned(), "map.unsigned")] {
        assert_eq!(bits(map.codes()), bits(&golden.floats(name)), "{name}");
    }
}
