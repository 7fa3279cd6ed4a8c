"The training command with a tiny network and slow batches, so that a test can stop it in any epoch."

import sys
import time

from networks import two_convolutions

from face_emotion import model, train


def main() -> int:
    "As `face-emotion train`."
    model.BACKBONES["TwoConvolutions"] = two_convolutions
    batch = train.Batches.__getitem__
    train.Batches.__getitem__ = lambda self, i: (time.sleep(0.2), batch(self, i))[1]
    return train.main()


if __name__ == "__main__":
    sys.exit(main())
