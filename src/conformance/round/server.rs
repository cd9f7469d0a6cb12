//! The server of a round: it checks the Hello and the Answer, and sends the Challenge and the Pass.

use bytes::Bytes;

use super::{CoreMutation, Forgery, Round, forge, frame, kind, name, proof, random};
use crate::handshake::crypto::{Keys, Secret};
use crate::handshake::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::wire::proto::handshake as proto;

/// State of a server that has sent its Challenge.
#[derive(Clone)]
pub(crate) struct ChallengeSent {
    t4: Transcript,
    nonce: [u8; 32],
    k_server: [u8; 32],
    pub(crate) peer: proto::Core,
}

/// State of a server that has verified the Answer.
#[derive(Clone)]
pub(crate) struct AnswerChecked {
    pub(crate) end: [u8; 32],
    pub(crate) pass: [u8; 32],
    pub(crate) k_client: [u8; 32],
    pub(crate) enc: [u8; 32],
}

impl Round {
    /// Verifies the peer's Hello and returns the Challenge.
    pub(crate) fn challenge(
        &self,
        body: &[u8],
        mutation: CoreMutation<'_>,
        forgery: Forgery,
    ) -> Result<(ChallengeSent, Vec<u8>), String> {
        let hello = match kind(body)? {
            proto::frame::Kind::Hello(hello) => hello,
            other => return Err(format!("{} where a Hello was due", name(&other))),
        };
        let peer = self.check(&hello.core)?;
        if peer.key != 0 {
            return Err("a Hello that chooses a network key".to_owned());
        }
        let nonce = random();
        let core = mutation(proto::Core {
            key: match self.tagged(&self.remote, &self.party.noise_id, &peer) {
                Err(_) if self.party.relays => 1,
                key => key?,
            },
            ..self.core(nonce)
        });
        let t2 = self
            .start(&self.remote, &self.party.noise_id)
            .hello(&hello.core)
            .challenge(&core);
        let k_server: [u8; 32] = random();
        let labels = (SEAL_TO_CLIENT, SEAL_TO_SERVER);
        let (enc, ciphertext) = self.seal(forgery, &peer, labels, t2, k_server)?;
        let t3 = t2.challenge_sealed(&enc, &ciphertext);
        let texts = (t3.for_server(), t3.for_client());
        let signature = forge::sign(forgery, &self.party.identity, t3.as_bytes(), texts);
        let t4 = t3.challenge_signed(&signature);
        let challenge = proto::Challenge {
            core: core.into(),
            enc: Bytes::copy_from_slice(&enc),
            ciphertext: Bytes::copy_from_slice(&ciphertext),
            signature: Bytes::copy_from_slice(&signature),
        };
        let served = ChallengeSent {
            t4,
            nonce,
            k_server,
            peer,
        };
        Ok((served, frame(proto::frame::Kind::Challenge(challenge))))
    }

    /// Verifies the peer's Answer.
    pub(crate) fn on_answer(
        &self,
        served: &ChallengeSent,
        body: &[u8],
    ) -> Result<AnswerChecked, String> {
        let answer = match kind(body)? {
            proto::frame::Kind::Answer(answer) => answer,
            other => return Err(format!("{} where an Answer was due", name(&other))),
        };
        let proof = proof(&answer.enc, &answer.ciphertext, &answer.signature)?;
        let t5 = served.t4.answer_sealed(&proof.enc, &proof.ciphertext);
        self.verify(&served.peer, &t5.for_client(), &proof.signature)?;
        let k_client = self.open(SEAL_TO_SERVER, served.t4, &proof, served.nonce)?;
        let (server, client) = (Secret::new(served.k_server), Secret::new(k_client));
        let keys = Keys::derive(t5, &server, &client, &self.network_key());
        let confirm = keys.confirm(&t5.to_confirm(&proof.signature));
        if answer.confirm != confirm[..] {
            return Err("an Answer whose confirm does not hold".to_owned());
        }
        let end = t5.end(&proof.signature, &confirm);
        Ok(AnswerChecked {
            end: *end.as_bytes(),
            pass: keys.pass(end),
            k_client,
            enc: proof.enc,
        })
    }

    pub(crate) fn pass(&self, accepted: &AnswerChecked) -> Vec<u8> {
        frame(proto::frame::Kind::Pass(proto::Pass {
            confirm: Bytes::copy_from_slice(&accepted.pass),
        }))
    }
}
