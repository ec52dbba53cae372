/**
 * Random tests do the same in every run, so that a run judges the change and not its luck. TCFS_PROPERTY_SEED has the
 * properties try other examples; docs/TESTING.md tells of the others.
 */
import fc from "fast-check";

fc.configureGlobal({
  ...fc.readConfigureGlobal(),
  seed: Number(process.env["TCFS_PROPERTY_SEED"] ?? 20_261_122),
});
