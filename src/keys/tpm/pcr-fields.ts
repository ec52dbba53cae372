/** PCRs as fields of JSON (FORMAT.md §8.2): which bank, and which of its registers. */
import { z } from "zod";
import { PCR_BANKS, PCR_COUNT } from "./pcr-selection.ts";

const pcrField = z
  .int()
  .min(0)
  .max(PCR_COUNT - 1);

export const pcrFields = { pcrBank: z.enum(PCR_BANKS), pcrs: z.array(pcrField).min(1).max(PCR_COUNT) };
