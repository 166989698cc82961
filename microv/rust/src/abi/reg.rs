//! mv_reg_t: register numbers of reg_get, reg_set and their lists.
//!
//! Segment quads are in the order selector, attrib, limit, base. The selector and attrib of gdtr and
//! idtr exist as numbers only. Number 71 is an AMD VMCB field in the original and unsupported here.
#![allow(missing_docs, reason = "the names are the specification's")]
#![allow(non_upper_case_globals, reason = "the names are the specification's")]

super::define::constants! {
    mv_reg_t_unsupported = 0;
    mv_reg_t_rax = 1;
    mv_reg_t_rbx = 2;
    mv_reg_t_rcx = 3;
    mv_reg_t_rdx = 4;
    mv_reg_t_rbp = 5;
    mv_reg_t_rsi = 6;
    mv_reg_t_rdi = 7;
    mv_reg_t_r8 = 8;
    mv_reg_t_r9 = 9;
    mv_reg_t_r10 = 10;
    mv_reg_t_r11 = 11;
    mv_reg_t_r12 = 12;
    mv_reg_t_r13 = 13;
    mv_reg_t_r14 = 14;
    mv_reg_t_r15 = 15;
    mv_reg_t_rsp = 16;
    mv_reg_t_rip = 17;
    mv_reg_t_rflags = 18;
    mv_reg_t_es_selector = 19;
    mv_reg_t_es_attrib = 20;
    mv_reg_t_es_limit = 21;
    mv_reg_t_es_base = 22;
    mv_reg_t_cs_selector = 23;
    mv_reg_t_cs_attrib = 24;
    mv_reg_t_cs_limit = 25;
    mv_reg_t_cs_base = 26;
    mv_reg_t_ss_selector = 27;
    mv_reg_t_ss_attrib = 28;
    mv_reg_t_ss_limit = 29;
    mv_reg_t_ss_base = 30;
    mv_reg_t_ds_selector = 31;
    mv_reg_t_ds_attrib = 32;
    mv_reg_t_ds_limit = 33;
    mv_reg_t_ds_base = 34;
    mv_reg_t_fs_selector = 35;
    mv_reg_t_fs_attrib = 36;
    mv_reg_t_fs_limit = 37;
    mv_reg_t_fs_base = 38;
    mv_reg_t_gs_selector = 39;
    mv_reg_t_gs_attrib = 40;
    mv_reg_t_gs_limit = 41;
    mv_reg_t_gs_base = 42;
    mv_reg_t_ldtr_selector = 43;
    mv_reg_t_ldtr_attrib = 44;
    mv_reg_t_ldtr_limit = 45;
    mv_reg_t_ldtr_base = 46;
    mv_reg_t_tr_selector = 47;
    mv_reg_t_tr_attrib = 48;
    mv_reg_t_tr_limit = 49;
    mv_reg_t_tr_base = 50;
    mv_reg_t_gdtr_selector = 51;
    mv_reg_t_gdtr_attrib = 52;
    mv_reg_t_gdtr_limit = 53;
    mv_reg_t_gdtr_base = 54;
    mv_reg_t_idtr_selector = 55;
    mv_reg_t_idtr_attrib = 56;
    mv_reg_t_idtr_limit = 57;
    mv_reg_t_idtr_base = 58;
    mv_reg_t_dr0 = 59;
    mv_reg_t_dr1 = 60;
    mv_reg_t_dr2 = 61;
    mv_reg_t_dr3 = 62;
    mv_reg_t_dr6 = 63;
    mv_reg_t_dr7 = 64;
    mv_reg_t_cr0 = 65;
    mv_reg_t_cr2 = 66;
    mv_reg_t_cr3 = 67;
    mv_reg_t_cr4 = 68;
    mv_reg_t_cr8 = 69;
    mv_reg_t_xcr0 = 70;
    mv_reg_t_virtual_interrupt_a = 71;
    mv_reg_t_invalid = 72;
    /// Extension. PDPTE registers of PAE paging; come after CR0, CR3 and CR4, which load them.
    mv_reg_t_pdpte0 = 0x100;
    mv_reg_t_pdpte1 = 0x101;
    mv_reg_t_pdpte2 = 0x102;
    mv_reg_t_pdpte3 = 0x103;
}
