// Others' verifier on our DSSE lines: @sigstore/verify with the store's public key and nothing of Sigstore's own
// services. Arguments: keys.pem and F.seal.jsonl. Exit code 0 if it accepts every line and refuses every changed one.
const fs = require('fs');
const crypto = require('crypto');
const { bundleFromJSON } = require('@sigstore/bundle');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

const [, , pem, lines] = process.argv;
const publicKey = crypto.createPublicKey(fs.readFileSync(pem, 'utf8'));
const trustedRoot = {
  mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
  tlogs: [], certificateAuthorities: [], ctlogs: [], timestampAuthorities: [],
};
const material = toTrustMaterial(trustedRoot, () => ({ publicKey, validFor: () => true }));
const verifier = new Verifier(material, { tlogThreshold: 0, ctlogThreshold: 0, tsaThreshold: 0, timestampThreshold: 0 });

function accepts(envelope) {
  const bundle = bundleFromJSON({
    mediaType: 'application/vnd.dev.sigstore.bundle.v0.3+json',
    verificationMaterial: {
      publicKey: { hint: envelope.signatures[0].keyid },
      tlogEntries: [],
      timestampVerificationData: { rfc3161Timestamps: [] },
    },
    dsseEnvelope: envelope,
  });
  try {
    verifier.verify(toSignedEntity(bundle));
    return true;
  } catch (error) {
    if (error.code !== 'SIGNATURE_ERROR') throw error;
    return false;
  }
}

let good = 0;
for (const line of fs.readFileSync(lines, 'utf8').trim().split('\n')) {
  const envelope = JSON.parse(line);
  const payload = Buffer.from(envelope.payload, 'base64').toString();
  const changed = Buffer.from(payload.replace(/"sha256":"./, '"sha256":"x')).toString('base64');
  if (!accepts(envelope)) throw new Error(`refused: ${line.slice(0, 80)}…`);
  if (accepts({ ...envelope, payload: changed })) throw new Error('a changed payload was accepted');
  if (accepts({ ...envelope, payloadType: 'application/json' })) throw new Error('a changed type was accepted');
  good += 1;
}
console.log(`${good} lines accepted, each refused when changed`);
