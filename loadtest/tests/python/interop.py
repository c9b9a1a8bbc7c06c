"""Tokens by three independent JOSE libraries, for the tests to compare with.

    interop.py mint KEYS CLAIMS   JSON object: library -> compact JWE, sealed with the current key of the file KEYS
    interop.py open KEYS TOKEN    JSON object: library -> claims
"""

import base64
import json
import sys

import joserfc.jwe
import joserfc.jwk
import jose.jwe
import jwcrypto.jwe
import jwcrypto.jwk


def current_key(path):
    with open(path, encoding="utf-8") as file:
        keys = json.load(file)["keys"]
    return next(key for key in keys if key.get("state", "current") == "current")


def key_bytes(key):
    return base64.urlsafe_b64decode(key["k"] + "=" * (-len(key["k"]) % 4))


def mint(key, claims):
    header = {"alg": "dir", "enc": "A256GCM", "kid": key["kid"]}
    by_jwcrypto = jwcrypto.jwe.JWE(claims.encode(), json.dumps(header))
    by_jwcrypto.add_recipient(jwcrypto.jwk.JWK(**key))
    by_joserfc = joserfc.jwe.encrypt_compact(header, claims, joserfc.jwk.OctKey.import_key(key))
    by_jose = jose.jwe.encrypt(
        claims, key_bytes(key), algorithm="dir", encryption="A256GCM", kid=key["kid"]
    )
    return {
        "python-jose": by_jose.decode(),
        "jwcrypto": by_jwcrypto.serialize(compact=True),
        "joserfc": by_joserfc,
    }


def open_token(key, token):
    by_jwcrypto = jwcrypto.jwe.JWE()
    by_jwcrypto.deserialize(token, jwcrypto.jwk.JWK(**key))
    by_joserfc = joserfc.jwe.decrypt_compact(token, joserfc.jwk.OctKey.import_key(key))
    return {
        "python-jose": json.loads(jose.jwe.decrypt(token, key_bytes(key))),
        "jwcrypto": json.loads(by_jwcrypto.payload),
        "joserfc": json.loads(by_joserfc.plaintext),
    }


def main():
    action, keys, argument = sys.argv[1:]
    key = current_key(keys)
    answer = {"mint": mint, "open": open_token}[action](key, argument)
    json.dump(answer, sys.stdout)


main()
