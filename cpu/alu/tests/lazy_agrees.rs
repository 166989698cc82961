//! Flags computed on demand are those computed at once, and conditions agree with flags.

use cpu_alu::flags::{self, CF, STATUS};
use cpu_alu::{Condition, LazyFlags, Width, arith, logic};
use proptest::prelude::*;

/// Small and extreme operands as often as any other.
fn operand() -> impl Strategy<Value = u64> {
    let near = |center: u64| (0..4_u64).prop_map(move |n| center.wrapping_sub(2).wrapping_add(n));
    let widths = prop_oneof![Just(8), Just(16), Just(32), Just(63)];
    prop_oneof![
        any::<u64>(),
        near(0),
        widths.clone().prop_flat_map(move |bits: u32| near(1 << bits)),
        widths.prop_flat_map(move |bits: u32| near(1 << (bits - 1))),
    ]
}

/// Every way to read `lazy` gives what `eager` says.
fn agrees(lazy: &LazyFlags, eager: u32) -> Result<(), TestCaseError> {
    prop_assert_eq!(lazy.flags(), eager, "{:?}", lazy);
    let each = [
        (lazy.cf(), flags::CF),
        (lazy.pf(), flags::PF),
        (lazy.af(), flags::AF),
        (lazy.zf(), flags::ZF),
        (lazy.sf(), flags::SF),
        (lazy.of_flag(), flags::OF),
    ];
    for (value, flag) in each {
        prop_assert_eq!(value, eager & flag != 0, "flag {:#x} of {:?}", flag, lazy);
    }
    for condition in Condition::ALL {
        let holds = condition.holds(eager);
        prop_assert_eq!(lazy.condition(condition), holds, "{:?} of {:?}", condition, lazy);
    }
    Ok(())
}

fn all_operations<W: Width>(a: u64, b: u64, before: u32) -> Result<(), TestCaseError> {
    let (a, b) = (W::from_u64(a), W::from_u64(b));
    let carry = before & CF != 0;
    let pairs = [
        (LazyFlags::add(a, b), arith::add(a, b)),
        (LazyFlags::adc(a, b, carry), arith::adc(a, b, before)),
        (LazyFlags::sub(a, b), arith::sub(a, b)),
        (LazyFlags::sbb(a, b, carry), arith::sbb(a, b, before)),
        (LazyFlags::inc(a, carry), arith::inc(a, before)),
        (LazyFlags::dec(a, carry), arith::dec(a, before)),
        (LazyFlags::neg(a), arith::neg(a)),
    ];
    for ((lazy_result, lazy), (eager_result, eager)) in pairs {
        prop_assert_eq!(lazy_result, eager_result, "{:?}", lazy);
        agrees(&lazy, eager)?;
    }
    agrees(&LazyFlags::cmp(a, b), arith::cmp(a, b))?;
    for (result, eager) in [logic::and(a, b), logic::or(a, b), logic::xor(a, b)] {
        agrees(&LazyFlags::logic(result), eager)?;
    }
    agrees(&LazyFlags::eager(before), before & STATUS)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lazy_flags_are_the_eager_flags(a in operand(), b in operand(), before in 0..=STATUS) {
        all_operations::<u8>(a, b, before)?;
        all_operations::<u16>(a, b, before)?;
        all_operations::<u32>(a, b, before)?;
        all_operations::<u64>(a, b, before)?;
    }
}

#[test]
fn only_status_flags_enter_lazy_flags() {
    assert_eq!(LazyFlags::eager(u32::MAX).flags(), STATUS);
    assert_eq!(LazyFlags::default().flags(), 0);
}
