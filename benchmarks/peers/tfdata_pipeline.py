"""tf.data from TFRecords of full-size JPEGs: decode, random square, flips, crop, resize to 224, normalize.

What a Kaggle notebook for TPUs does: a random square of the whole photo, then a random crop of 49% to 100% of
it. `plain` resizes as `tf.image.resize` does by default, without antialiasing, in half the time.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from timing import answer, arguments, images_per_second

SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def written(files: list[Path], work: Path, repeats: int) -> Path:
    """One TFRecord with the bytes of every photo, written once."""
    path = work / f"{len(files)}x{repeats}.tfrec"
    if not path.exists():
        half = path.with_suffix(".part")
        with tf.io.TFRecordWriter(str(half)) as writer:
            for number, file in enumerate(files * repeats):
                image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[file.read_bytes()]))
                label = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 5]))
                features = tf.train.Features(feature={"image": image, "label": label})
                writer.write(tf.train.Example(features=features).SerializeToString())
        os.replace(half, path)
    return path


def read(record: tf.Tensor, antialias: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """One record: its image, augmented, (224, 224, 3) float32, and its label."""
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
    example = tf.io.parse_single_example(record, features)
    image = tf.io.decode_jpeg(example["image"], channels=3)
    shape = tf.shape(image)
    side = tf.minimum(shape[0], shape[1])
    image = tf.image.random_crop(image, [side, side, 3])
    image = tf.image.random_flip_left_right(image)
    image = tf.image.random_flip_up_down(image)
    part = tf.cast(tf.cast(side, tf.float32) * tf.random.uniform([], 0.7, 1.0), tf.int32)
    image = tf.image.random_crop(image, [part, part, 3])
    image = tf.image.resize(image, [SIZE, SIZE], antialias=antialias)
    return (image / 255.0 - MEAN) / STD, example["label"]


def main() -> None:
    given = arguments(__doc__, ["plain", "antialiased"])
    options = tf.data.Options()
    options.threading.private_threadpool_size = given.threads
    tf.config.threading.set_intra_op_parallelism_threads(given.threads)
    tf.config.threading.set_inter_op_parallelism_threads(given.threads)
    data = tf.data.TFRecordDataset(str(written(given.files, given.work, given.repeats)))
    data = data.shuffle(512).map(
        partial(read, antialias=given.case == "antialiased"),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=False,
    )
    data = data.batch(given.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE).with_options(options)

    def epoch() -> int:
        return sum(len(images) for images, _ in data)

    answer(images_per_second(epoch, given.seconds), versions={"tensorflow": tf.__version__})


if __name__ == "__main__":
    main()
