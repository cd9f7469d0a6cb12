//! The client of a round: it sends the Hello and the Answer, and checks the Challenge and the Pass.

use bytes::Bytes;
use prost::Message;

use super::{
    CoreMutation, Forgery, Round, forge, frame, kind, name, proof, random, with_bit_flipped,
};
use crate::handshake::crypto::{Keys, Secret};
use crate::handshake::message::Proof;
use crate::handshake::transcript::{SEAL_TO_CLIENT, SEAL_TO_SERVER, Transcript};
use crate::wire::proto::handshake as proto;

/// State of a client that has sent its Hello.
#[derive(Clone)]
pub(crate) struct HelloSent {
    t1: Transcript,
    nonce: [u8; 32],
    /// The number of the tag, of the two, that is for the kit's network key.
    key: u32,
}

/// State of a client that has verified the Challenge.
#[derive(Clone)]
pub(crate) struct ChallengeChecked {
    t4: Transcript,
    pub(crate) k_server: [u8; 32],
    pub(crate) enc: [u8; 32],
    pub(crate) peer: proto::Core,
}

/// State of a client that has sent its Answer.
#[derive(Clone)]
pub(crate) struct AnswerSent {
    pub(crate) end: [u8; 32],
    pass: [u8; 32],
}

impl Round {
    pub(crate) fn hello(&self, mutation: CoreMutation<'_>) -> (HelloSent, Vec<u8>) {
        let nonce = random();
        let (client, server) = (&self.party.noise_id, &self.remote);
        let tags = self.tags(client, server, &nonce);
        let core = mutation(proto::Core {
            tags: Bytes::copy_from_slice(&tags),
            ..self.core(nonce)
        });
        // A Core that was mutated to have no tag must be refused, so its key is never compared with a Challenge.
        let said = proto::Core::decode(&core[..]).unwrap_or_default();
        let key = self.tagged(client, server, &said).unwrap_or_default();
        let t1 = self.start(client, server).hello(&core);
        let hello = proto::Hello { core: core.into() };
        let asked = HelloSent { t1, nonce, key };
        (asked, frame(proto::frame::Kind::Hello(hello)))
    }

    /// Verifies the peer's Challenge.
    pub(crate) fn on_challenge(
        &self,
        asked: &HelloSent,
        body: &[u8],
    ) -> Result<ChallengeChecked, String> {
        let challenge = match kind(body)? {
            proto::frame::Kind::Challenge(challenge) => challenge,
            other => return Err(format!("{} where a Challenge was due", name(&other))),
        };
        let peer = self.check(&challenge.core)?;
        if !peer.tags.is_empty() {
            return Err("a Challenge with tags".to_owned());
        }
        if peer.key != asked.key {
            return Err(format!(
                "a Challenge that chooses network key {}, where {} was offered",
                peer.key, asked.key
            ));
        }
        let proof = proof(&challenge.enc, &challenge.ciphertext, &challenge.signature)?;
        let t2 = asked.t1.challenge(&challenge.core);
        let t3 = t2.challenge_sealed(&proof.enc, &proof.ciphertext);
        self.verify(&peer, &t3.for_server(), &proof.signature)?;
        let k_server = self.open(SEAL_TO_CLIENT, t2, &proof, asked.nonce)?;
        Ok(ChallengeChecked {
            t4: t3.challenge_signed(&proof.signature),
            k_server,
            enc: proof.enc,
            peer,
        })
    }

    pub(crate) fn answer(
        &self,
        challenged: &ChallengeChecked,
        forgery: Forgery,
    ) -> Result<(AnswerSent, Vec<u8>), String> {
        let ChallengeChecked {
            t4, k_server, peer, ..
        } = challenged;
        let k_client: [u8; 32] = random();
        let labels = (SEAL_TO_SERVER, SEAL_TO_CLIENT);
        let (enc, ciphertext) = self.seal(forgery, peer, labels, *t4, k_client)?;
        let t5 = t4.answer_sealed(&enc, &ciphertext);
        let texts = (t5.for_client(), t5.for_server());
        let signature = forge::sign(forgery, &self.party.identity, t5.as_bytes(), texts);
        let network = match forgery {
            Forgery::OtherNetworkKey => random(),
            _ => self.network_key(),
        };
        let (server, client) = (Secret::new(*k_server), Secret::new(k_client));
        let keys = Keys::derive(t5, &server, &client, &network);
        let confirm = keys.confirm(&t5.to_confirm(&signature));
        let confirm = match forgery {
            Forgery::ConfirmByte(at) => with_bit_flipped(confirm, at),
            _ => confirm,
        };
        let proof = Proof {
            enc,
            ciphertext,
            signature,
        };
        let end = t5.end(&proof.signature, &confirm);
        let answer = proto::Answer {
            enc: Bytes::copy_from_slice(&enc),
            ciphertext: Bytes::copy_from_slice(&ciphertext),
            signature: Bytes::copy_from_slice(&signature),
            confirm: Bytes::copy_from_slice(&confirm),
        };
        let answered = AnswerSent {
            end: *end.as_bytes(),
            pass: keys.pass(end),
        };
        Ok((answered, frame(proto::frame::Kind::Answer(answer))))
    }

    /// Verifies the peer's Pass.
    pub(crate) fn on_pass(&self, answered: &AnswerSent, body: &[u8]) -> Result<(), String> {
        match kind(body)? {
            proto::frame::Kind::Pass(pass) if pass.confirm == answered.pass[..] => Ok(()),
            proto::frame::Kind::Pass(_) => Err("a Pass that does not hold".to_owned()),
            other => Err(format!("{} where a Pass was due", name(&other))),
        }
    }
}
