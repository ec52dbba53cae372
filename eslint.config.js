/** ESLint: type-aware rules for src, test and scripts, and the import zones of the rooms (docs/ARCHITECTURE.md). */
import { createNodeResolver, importX } from "eslint-plugin-import-x";
import tsdoc from "eslint-plugin-tsdoc";
import { defineConfig } from "eslint/config";
import tseslint from "typescript-eslint";

/** Every room may import these. */
const GROUND = [
  "ids.ts",
  "errors.ts",
  "bytes.ts",
  "borrowed-bytes.ts",
  "counted.ts",
  "maybe-promise.ts",
  "logger.ts",
  "platform",
];

/** The rooms of src/, lowest first, and what each may import besides the ground and itself. */
const ROOMS = {
  platform: [],
  format: [],
  crypto: ["format"],
  keys: ["crypto", "format"],
  remote: [],
  chunkstore: ["crypto", "format", "remote", "metadata/metadata-store.ts"],
  metadata: ["crypto", "format"],
  cache: ["chunkstore", "metadata", "remote"],
  replica: ["format", "crypto", "keys", "remote", "chunkstore", "metadata"],
  fs: ["format", "crypto", "keys", "remote", "chunkstore", "metadata", "cache"],
  fuse: ["fs"],
  vault: ["format", "crypto", "keys", "remote", "chunkstore", "metadata", "cache", "replica", "fs"],
  cli: ["format", "crypto", "keys", "remote", "chunkstore", "metadata", "cache", "replica", "fs", "fuse", "vault"],
};

const zones = [
  ...Object.entries(ROOMS).map(([room, allowed]) => ({
    target: `./src/${room}`,
    from: "./src",
    except: [...new Set([...GROUND, room, ...allowed])].map((path) => `./${path}`),
    message: `src/${room} may import only ${[...GROUND, ...allowed].join(", ")}.`,
  })),
  {
    target: "./src/*.ts",
    from: "./src",
    except: GROUND.map((path) => `./${path}`),
    message: "The ground imports no room.",
  },
];

export default defineConfig(
  { ignores: ["node_modules/", "dist/", "dist.*/", "coverage/", "native/", "test/vectors/"] },
  {
    files: ["**/*.{ts,js,mjs}"],
    extends: [tseslint.configs.strictTypeChecked],
    plugins: { tsdoc, "import-x": importX },
    languageOptions: { parserOptions: { project: "./tsconfig.check.json", tsconfigRootDir: import.meta.dirname } },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    settings: {
      "import-x/extensions": [".ts", ".mjs", ".js"],
      // Without it the plugin looks for a module `node` beside each imported file, and lru-cache has one.
      "import-x/resolver-next": [createNodeResolver()],
      "import-x/parsers": { "@typescript-eslint/parser": [".ts"] },
    },
    rules: {
      "import-x/no-cycle": ["error", { ignoreExternal: true }],
      "import-x/no-restricted-paths": ["error", { basePath: import.meta.dirname, zones }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-confusing-void-expression": [
        "error",
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      "@typescript-eslint/no-unused-vars": [
        "error",
        { argsIgnorePattern: "^_", varsIgnorePattern: "^_", destructuredArrayIgnorePattern: "^_" },
      ],
      "@typescript-eslint/only-throw-error": ["error", { allowRethrowing: true, allowThrowingUnknown: true }],
      "@typescript-eslint/no-unnecessary-condition": [
        "error",
        { allowConstantLoopConditions: "only-allowed-literals" },
      ],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      complexity: ["error", { max: 20, variant: "modified" }],
      eqeqeq: "error",
      "max-lines": ["error", { max: 500 }],
      "max-lines-per-function": ["error", { max: 70 }],
      "no-console": "error",
      "no-param-reassign": "error",
      "prefer-const": "error",
    },
  },
  { files: ["**/*.ts"], rules: { "tsdoc/syntax": "error" } },
  { files: ["src/cli/**", "scripts/**"], rules: { "no-console": "off" } },
  // These rules do not see the type that JSDoc gives to what JSON.parse returns.
  {
    files: ["scripts/**"],
    rules: {
      "@typescript-eslint/no-unsafe-assignment": "off",
      "@typescript-eslint/no-unsafe-member-access": "off",
      "@typescript-eslint/no-unsafe-return": "off",
    },
  },
  {
    files: ["src/**"],
    ignores: ["src/cli/**"],
    rules: {
      "no-restricted-properties": [
        "error",
        { object: "process", property: "env", message: "Settings are parsed in src/cli alone." },
        { object: "process", property: "exit", message: "Only src/cli ends the process." },
      ],
    },
  },
  {
    files: ["test/**"],
    rules: {
      "max-lines-per-function": "off",
      "@typescript-eslint/no-non-null-assertion": "off",
      // A flag that a callback turns looks constant to the first; stand-ins are async and await nothing.
      "@typescript-eslint/no-unnecessary-condition": "off",
      "@typescript-eslint/require-await": "off",
      "no-console": "off",
    },
  },
);
