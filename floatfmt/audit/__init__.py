"""The auditor: any cast over all its inputs, with a verdict and named faults.

`inputs` says which inputs, `casts` who casts them, `profiles` what casts are known to do, `sweep`
how they are gone through, `faults` what went wrong, `verify` puts it together, `report` shows it.

`quantizers` asks the same of quantisers, and `convention_diff` shows where conventions disagree.
`quantizer_values` is a sweep, `quantizer_trials` goes through `quantizer_tensors`, and
`quantizer_rules` says what else a quantiser may do.
"""
