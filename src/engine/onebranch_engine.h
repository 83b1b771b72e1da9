/* The engine's C interface: a merged network runs on rows of pictures.

   Every function that can fail returns 0 (or a null pointer) after writing one line into `message`. No function
   throws, prints or keeps a pointer that it was given, but for `network` in a stream. `ask`, which may be null, is
   called a few times a second on the calling thread while a function works: not 0 ends it early. Different threads may run
   the same network at once; a stream belongs to one thread at a time. */

#ifndef ONEBRANCH_ENGINE_H
#define ONEBRANCH_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define OB_API __declspec(dllexport)
#else
#define OB_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when anything below changes; Python refuses a library of another version. */
#define OB_VERSION 2

typedef struct ob_network ob_network;
typedef struct ob_stream ob_stream;
typedef int32_t (*ob_ask)(void);

enum ob_type { OB_UINT8 = 0, OB_UINT16 = 1, OB_FLOAT32 = 2 };

/* What lies between the picture's samples and the network's channels. */
enum ob_colour {
    OB_OWN = 0,       /* the picture has the network's channels */
    OB_Y_OF_RGB = 1,  /* a luma network on an RGB picture: chroma is interpolated */
    OB_Y_OF_GREY = 2, /* a luma network on a grey picture */
    OB_RGB_OF_GREY = 3 /* an RGB network on a grey picture */
};

/* A picture of height x width pixels as it lies in memory. Whole numbers stand for [0, 1]; outputs of them are
   clipped and rounded half up, floats are neither. planar: channel after channel, else pixel after pixel. */
typedef struct ob_format {
    int64_t height, width;
    int32_t source, target; /* enum ob_type, of what goes in and of what comes out */
    int32_t colour;         /* enum ob_colour */
    int32_t planar;
} ob_format;

OB_API int32_t ob_version(void);

/* Names of the instruction sets that this machine runs, best first, separated by spaces. */
OB_API const char *ob_instruction_sets(void);

/* A network from its description (see description.cpp). instructions: a name of those above, null: the best. */
OB_API ob_network *ob_open(const uint8_t *description, size_t size, const char *instructions, char *message,
                           size_t room);
OB_API void ob_close(ob_network *network);

/* Rows and columns of the output for a picture of the format's size. */
OB_API int64_t ob_output_height(const ob_network *network, int64_t height);
OB_API int64_t ob_output_width(const ob_network *network, int64_t width);

/* A whole picture, on so many threads, the calling one among them. strip, band: the largest columns and rows of a
   piece, for tests; 0 chooses them. */
OB_API int32_t ob_run(const ob_network *network, const ob_format *format, const void *input, void *output,
                      int32_t threads, int64_t strip, int64_t band, ob_ask ask, char *message,
                      size_t room);

/* A picture in rows, from the top: its memory grows with the width alone. */
OB_API ob_stream *ob_stream_open(const ob_network *network, const ob_format *format, int32_t threads, char *message,
                                 size_t room);
/* Rows that the stream will have given in all once it has taken `rows` rows. */
OB_API int64_t ob_stream_ready(const ob_stream *stream, int64_t rows);
/* Takes `count` more rows and writes those that become ready, from the first of them on, to `output`.
   Planes lie input_plane and output_plane rows apart where the format is planar. */
OB_API int32_t ob_stream_push(ob_stream *stream, const void *input, int64_t count, int64_t input_plane, void *output,
                              int64_t output_plane, ob_ask ask, char *message, size_t room);
OB_API void ob_stream_close(ob_stream *stream);

/* Multiply-accumulates a second of one thread in the innermost loop on data in the first cache.
   precision: 0 float32, 1 bfloat16, 2 int8. */
OB_API double ob_peak(const ob_network *network, int32_t precision, double seconds);

#ifdef __cplusplus
}
#endif
#endif
