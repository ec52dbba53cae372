/** What Node lacks of the host, for those that can do without it: undefined where the addon is not built. */
export const optionalHost = await import("./host-binding.ts").then(
  ({ host }) => host,
  () => undefined,
);
