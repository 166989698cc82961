//! mv_mp_state_t.
#![allow(missing_docs, reason = "the names are the specification's")]
#![allow(non_upper_case_globals, reason = "the names are the specification's")]

super::define::constants! {
    mv_mp_state_t_initial = 0;
    mv_mp_state_t_running = 1;
    mv_mp_state_t_wait = 2;
    mv_mp_state_t_init = 3;
    mv_mp_state_t_sipi = 4;
    mv_mp_state_t_invalid = 5;
}
