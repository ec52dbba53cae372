/** `npm run seaweedfs -- start|stop`: a SeaweedFS on loopback to try tcfs with. `stop` takes it away, data and all. */
import { existsSync, mkdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { Failure, runMain } from "./lib/run.mjs";
import { ensureSeaweed, seaweedPath, startSeaweed, stopSeaweed } from "./lib/seaweed.mjs";

const DIRECTORY = join(dirname(dirname(seaweedPath())), "seaweedfs-server");

await runMain(async () => {
  const [word] = process.argv.slice(2);
  if (word === "stop") {
    if (!stopSeaweed(DIRECTORY)) throw new Failure("no SeaweedFS was started by npm run seaweedfs");
    return;
  }
  if (word !== "start") throw new Failure("say what to do: npm run seaweedfs -- start, or stop");
  if (existsSync(join(DIRECTORY, "server.json")))
    throw new Failure("it runs already: npm run seaweedfs -- stop ends it");
  ensureSeaweed();
  mkdirSync(DIRECTORY, { recursive: true, mode: 0o700 });
  const { endpoint, credentials } = await startSeaweed({
    directory: DIRECTORY,
    isDetached: true,
    volumes: 0,
    volumeMib: 1024,
  });
  console.log(`# SeaweedFS runs at ${endpoint}, and makes a bucket when it is first written to.
export AWS_ACCESS_KEY_ID=${credentials.accessKeyId} AWS_SECRET_ACCESS_KEY=${credentials.secretAccessKey}
export TCFS_STORE='s3://vault/first?endpoint=${endpoint}'`);
});
